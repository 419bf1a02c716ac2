//! Whether, where and how records are forwarded: the section `[forward]`, and its options.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::target::{ForwardTarget, ForwardTargetError};
use crate::credential_file::find_secret_file;
use crate::option_values::PositiveDuration;

const MAX_RECORDS_DEFAULT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(99);

/// `[forward]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ForwardOptions {
    pub(crate) url: Option<String>,
    pub(crate) token_file: Option<PathBuf>,
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
        let token_file = self.token_file.as_deref().map(find_secret_file);
        ForwardTarget::new(url, token_file.as_deref(), self.timeout.0).map(Some)
    }
}

/// `[forward]`, as options of the command line. The names of the keys are those of the section.
#[derive(Clone, Debug, clap::Args, Serialize)]
#[command(next_help_heading = "Forwarding records")]
pub(crate) struct ForwardFlags {
    /// Forward applied records: POST them to URL, each at least once, in the order in which they were applied.
    ///
    /// The body is `{"records": [{"seq", "id", "type", "key", "device_id", "batch_id", "applied_at", "payload"}, …]}`. Any
    /// 2xx response accepts all of them. After any other response the gateway retries until they are accepted, and later
    /// records wait. A record that is sent again has the same id. The header Idempotency-Key is the same for the same body:
    /// a body that was not accepted is sent again unchanged, but after a restart of the gateway it may hold more records,
    /// and has another key. The first start with this option begins with the ledger's first record.
    #[arg(long, value_name = "URL")]
    #[serde(rename = "url")]
    forward: Option<String>,

    /// File with the bearer token to send to URL.
    #[arg(long, value_name = "FILE")]
    #[serde(rename = "token_file")]
    forward_token_file: Option<PathBuf>,

    /// Maximum number of records in one body [default: 100].
    #[arg(long, value_name = "N")]
    #[serde(rename = "max_records")]
    forward_max_records: Option<NonZeroUsize>,

    /// How long the gateway waits for a response [default: 30s].
    #[arg(long, value_name = "DURATION")]
    #[serde(rename = "timeout")]
    forward_timeout: Option<PositiveDuration>,

    /// The longest wait after a failure, and the wait after a rejection [default: 1m].
    #[arg(long, value_name = "DURATION")]
    #[serde(rename = "max_wait")]
    forward_max_wait: Option<PositiveDuration>,
}
