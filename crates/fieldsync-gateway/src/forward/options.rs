//! The options for forwarding.

use std::path::PathBuf;
use std::time::Duration;

use super::target::{ForwardTarget, ForwardTargetError};
use crate::option_values::{parse_count, parse_duration};

/// Whether, where and how records are forwarded.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Forwarding records")]
pub(crate) struct ForwardOptions {
    /// Forward applied records: POST them to URL, each at least once, in the order in which they were applied.
    ///
    /// The body is `{"records": [{"seq", "id", "type", "key", "device_id", "batch_id", "applied_at", "payload"}, …]}`. Any
    /// 2xx response accepts all of them. After any other response the gateway retries until they are accepted, and later
    /// records wait. A record that is sent again has the same id. The header Idempotency-Key is the same for the same body:
    /// a body that was not accepted is sent again unchanged, but after a restart of the gateway it may hold more records,
    /// and has another key. The first start with this option begins with the ledger's first record.
    #[arg(long, value_name = "URL")]
    forward: Option<String>,

    /// File with the bearer token to send to URL.
    #[arg(long, value_name = "FILE", requires = "forward")]
    forward_token_file: Option<PathBuf>,

    /// Maximum number of records in one body.
    #[arg(long, value_name = "N", default_value = "100", value_parser = parse_count)]
    pub(super) forward_max_records: usize,

    /// How long the gateway waits for a response.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    forward_timeout: Duration,

    /// The longest wait after a failure, and the wait after a rejection.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = parse_duration)]
    pub(super) forward_max_wait: Duration,
}

impl ForwardOptions {
    /// The target; `None` if records are not forwarded.
    pub(crate) fn build_target(&self) -> Result<Option<ForwardTarget>, ForwardTargetError> {
        let Some(url) = &self.forward else {
            return Ok(None);
        };
        ForwardTarget::new(url, self.forward_token_file.as_deref(), self.forward_timeout).map(Some)
    }
}
