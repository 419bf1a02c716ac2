//! The server of the demo: the gateway as a slow server behind a time limit, and what it counted at the end.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use super::environment::{DemoEnvironment, GATEWAY_PROGRAM, fetch_text};
use super::records::POISON_MARK;
use crate::cli::failure::CommandFailure;
use crate::model::RecordId;

/// The gateway's counter of responses.
const RESPONSES_METRIC: &str = "fieldsync_gateway_batch_answers_total";

/// How slow the server is, and the time limit of the gateway in front of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerBehavior {
    pub(super) limit: Duration,
    pub(super) record_cost: Duration,
}

/// The counts of the server at the end.
#[derive(Debug, Default)]
pub(super) struct ServerCounts {
    /// How often each record was applied.
    pub(super) applied: HashMap<RecordId, u64>,
    /// Number of batches by the HTTP status of the response.
    pub(super) responses: BTreeMap<u16, u64>,
}

/// Starts a gateway that is slow, and hangs on one record.
pub(super) fn start_slow_server(
    environment: &mut DemoEnvironment,
    timing: &ServerBehavior,
) -> Result<SocketAddr, CommandFailure> {
    environment.start_server(GATEWAY_PROGRAM, |gateway, dir| {
        gateway
            .args(["--listen", "127.0.0.1:0", "--hang-on", POISON_MARK, "--store"])
            .arg(dir.join("server.redb"))
            .arg("--time-limit")
            .arg(humantime::format_duration(timing.limit).to_string())
            .arg("--record-cost")
            .arg(humantime::format_duration(timing.record_cost).to_string());
    })
}

/// Counts at the server, not at the daemon.
pub(super) async fn count_at_server(server: SocketAddr) -> Result<ServerCounts, CommandFailure> {
    #[derive(Deserialize)]
    struct LedgerLine {
        id: RecordId,
    }
    let mut count = ServerCounts::default();
    for line in fetch_text(server, "/ledger").await?.lines() {
        let line: LedgerLine = serde_json::from_str(line).map_err(|error| {
            CommandFailure::failed(format!("the gateway's ledger cannot be decoded: {error}."))
        })?;
        *count.applied.entry(line.id).or_default() += 1;
    }
    for line in fetch_text(server, "/metrics").await?.lines() {
        if let Some((status, number)) = parse_response_count(line) {
            count.responses.insert(status, number);
        }
    }
    Ok(count)
}

/// `name{status="200"} 12`
fn parse_response_count(line: &str) -> Option<(u16, u64)> {
    let (labels, number) = line.strip_prefix(RESPONSES_METRIC)?.rsplit_once(' ')?;
    let status = labels.strip_prefix("{status=\"")?.strip_suffix("\"}")?;
    Some((status.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_response_counter_of_the_gateway_is_parsed() {
        assert_eq!(
            parse_response_count("fieldsync_gateway_batch_answers_total{status=\"504\"} 3"),
            Some((504, 3))
        );
        assert_eq!(parse_response_count("fieldsync_gateway_lookups_total{status=\"200\"} 3"), None);
        assert_eq!(parse_response_count("# TYPE fieldsync_gateway_batch_answers counter"), None);
    }
}
