//! Shared by the tests of commands: a context with a scripted daemon, and samples of its responses.

use super::context::CommandContext;
use super::failure::CommandFailure;
use crate::api::{Batching, BreakerStatus, ConnectivityStatus, Counts, Phase, QueueUse, Status, Sync};
use crate::client::Client;
use crate::client::scripted::ScriptedDaemon;
use crate::model::{DeviceId, LastError, ManifestEntry, RecordId, RecordState};

/// Runs a command, and returns its result and its output.
pub(crate) async fn run_verb(
    daemon: &ScriptedDaemon,
    json: bool,
    verb: impl AsyncFnOnce(&mut CommandContext<'_>) -> Result<u8, CommandFailure>,
) -> (Result<u8, CommandFailure>, String) {
    let mut out = Vec::new();
    let outcome = verb(&mut CommandContext {
        client: Client::new(daemon.socket()),
        named_socket: Some(daemon.socket()),
        json,
        is_terminal: false,
        width: None,
        has_colour: false,
        has_pager: false,
        out: &mut out,
    })
    .await;
    (outcome, String::from_utf8(out).unwrap())
}

/// A record that was rejected once.
pub(crate) fn rejected_entry(seq: u64, state: RecordState) -> ManifestEntry {
    ManifestEntry {
        id: RecordId::new(),
        seq,
        record_type: "Visits".to_owned(),
        key: Some("Acme".to_owned()),
        priority: 5,
        state,
        attempts: 1,
        sends: 1,
        payload_bytes: 2048,
        submitter: 0,
        created_at: 10_000,
        updated_at: 12_000,
        next_attempt_at: None,
        batch_id: None,
        last_error: Some(LastError {
            class: "rejected".to_owned(),
            http_status: Some(422),
            code: Some("BAD_DATE".to_owned()),
            message: "no such day".to_owned(),
            field: None,
            at: 12_000,
        }),
        discarded_by: None,
        blocked_by: None,
        blocked_count: 0,
    }
}

/// A status with this sentence and these counts.
pub(crate) fn sample_status(phase: Phase, text: &str, records: Counts) -> Status {
    Status {
        version: "0.1.0".to_owned(),
        device_id: DeviceId(uuid::Uuid::nil()),
        device_name: "van-12".into(),
        started_at: 0,
        sync: Sync {
            phase: phase.into(),
            reason: crate::api::SyncReason::Sending.into(),
            text: text.to_owned(),
            remedy: None,
            since: None,
            done: records.synced,
            total: records.synced + records.pending,
            needs_review: records.quarantined,
            eta_s: Some(31),
            batch: None,
            batches: Vec::new(),
            next_attempt_at: None,
            last_success_at: None,
            last_error: None,
            denied: Vec::new(),
        },
        records,
        queue: QueueUse {
            records: 107,
            max_records: 5_000_000,
            bytes: 181_200,
            max_bytes: 2 << 30,
            oldest_pending_at: Some(10_000),
            ..QueueUse::default()
        },
        batching: Batching {
            size: 23,
            rule: crate::model::SizeRule::Learned.into(),
            ms_per_record: Some(1166),
            expected_ms: Some(27_000),
            at_most_ms: Some(33_000),
            time_limit_ms: 60_000,
            time_budget_ms: 45_000,
            in_flight: 0,
            in_flight_limit: 2,
            in_flight_rule: crate::model::InFlightRule::Measured.into(),
        },
        breaker: BreakerStatus { mode: "normal".to_owned(), consecutive_failures: 0, retry_at: None },
        connectivity: ConnectivityStatus {
            state: crate::model::LinkState::Online.into(),
            since: 10_000,
            metered: false,
        },
        alerts: Vec::new(),
        caller: None,
    }
}
