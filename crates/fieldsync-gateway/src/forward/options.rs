//! Whether, where and how records are forwarded: the section `[forward]`, and its options.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::body::ForwardFormat;
use super::target::{ForwardTarget, ForwardTargetError, SecretFiles};
use crate::credential_file::find_secret_file;
use crate::option_values::PositiveDuration;

const MAX_RECORDS_DEFAULT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(99);

/// `[forward]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ForwardOptions {
    pub(crate) url: Option<String>,
    pub(crate) token_file: Option<PathBuf>,
    /// Signs requests.
    pub(crate) secret_file: Option<PathBuf>,
    pub(crate) format: ForwardFormat,
    pub(crate) max_records: NonZeroUsize,
    /// How long the gateway waits for a response.
    pub(crate) timeout: PositiveDuration,
    pub(crate) max_wait: PositiveDuration,
}

impl Default for ForwardOptions {
    fn default() -> Self {
        Self {
            url: None,
            token_file: None,
            secret_file: None,
            format: ForwardFormat::Records,
            max_records: MAX_RECORDS_DEFAULT,
            timeout: PositiveDuration::secs(30),
            max_wait: PositiveDuration::secs(60),
        }
    }
}

impl ForwardOptions {
    /// The target; `None` if records are not forwarded.
    pub(crate) fn build_target(&self) -> Result<Option<ForwardTarget>, ForwardTargetError> {
        let Some(url) = &self.url else {
            return Ok(None);
        };
        let files = SecretFiles {
            token: self.token_file.as_deref().map(find_secret_file),
            signing: self.secret_file.as_deref().map(find_secret_file),
        };
        ForwardTarget::new(url, self.format, files, self.timeout.0).map(Some)
    }
}

/// `[forward]`, as options of the command line. The names of the keys are those of the section.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[command(next_help_heading = "Forwarding records")]
pub(crate) struct ForwardFlags {
    /// Forward applied records: POST them to URL, each at least once, those of a device and key in order.
    ///
    /// The body is `{"records": [{"seq", "id", "type", "key", "device_id", "batch_id", "applied_at", "payload"}, …]}`. Any
    /// 2xx response accepts all of them, unless its body is `{"results": [{"id", "status", "code", "message", "field",
    /// "retry_after_s"}, …]}`: then each record is accepted (applied, duplicate), refused (rejected) or sent later (retry) by
    /// its own result. After another 4xx response, smaller parts are sent until the refused record is found. A refused record
    /// needs review (`fieldsync-gateway refused --help`): later records of its device and key wait, others pass.
    /// After 410, nothing is sent until the gateway is reloaded or restarted. After any other response the gateway retries. A
    /// record that is sent again has the same id. The header Idempotency-Key is the same for the same body: a body that was
    /// not accepted is sent again unchanged, but after a restart of the gateway it may hold more records, and has another key.
    /// What was applied before the first start with this option is not forwarded.
    #[arg(long, value_name = "URL")]
    #[serde(rename = "url")]
    forward: Option<String>,

    /// File with the bearer token to send to URL.
    #[arg(long, value_name = "FILE")]
    #[serde(rename = "token_file")]
    forward_token_file: Option<PathBuf>,

    /// File with the secrets that sign each request as Standard Webhooks, one per line: `whsec_` and base64.
    ///
    /// Each request then has the headers webhook-id (the Idempotency-Key), webhook-timestamp and webhook-signature, with a
    /// signature by each secret, so that a secret can be replaced without an outage. SIGHUP reloads the file.
    #[arg(long, value_name = "FILE")]
    #[serde(rename = "secret_file")]
    forward_secret_file: Option<PathBuf>,

    /// Form of the body; `cloudevents` is a JSON array of `CloudEvents` 1.0 (application/cloudevents-batch+json).
    #[arg(long, value_name = "FORMAT", value_enum)]
    #[serde(rename = "format")]
    forward_format: Option<ForwardFormat>,

    /// Maximum number of records in one body [default: 100].
    #[arg(long, value_name = "N")]
    #[serde(rename = "max_records")]
    forward_max_records: Option<NonZeroUsize>,

    /// How long the gateway waits for a response [default: 30s].
    #[arg(long, value_name = "DURATION")]
    #[serde(rename = "timeout")]
    forward_timeout: Option<PositiveDuration>,

    /// The longest wait after a failure [default: 1m].
    #[arg(long, value_name = "DURATION")]
    #[serde(rename = "max_wait")]
    forward_max_wait: Option<PositiveDuration>,
}
