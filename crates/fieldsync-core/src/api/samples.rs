//! Sample values for tests.

mod telemetry_week;

pub use telemetry_week::telemetry_week;

use super::{BatchOutcome, BatchReport, OpenEnum, Sync, SyncReason};
use crate::model::{BatchId, InFlightRule, Phase, Sequence, SizeRule};

/// A batch of 25 records that got a response.
pub fn sample_report(rule: impl Into<OpenEnum<SizeRule>>, parent: Option<BatchId>) -> BatchReport {
    BatchReport {
        id: BatchId::new(),
        parent,
        sequence: Sequence { index: 3, total: 6 },
        records: 25,
        bytes: 12_600,
        attempt: 1,
        outcome: BatchOutcome::Answered.into(),
        http_status: Some(200),
        duration_ms: 27_900,
        synced: 25,
        rule: rule.into(),
        expected_ms: None,
        at_most_ms: None,
        time_limit_ms: 60_000,
        in_flight: 2,
        in_flight_rule: InFlightRule::Measured.into(),
        note: "a result for each record".into(),
        at: 10_000,
    }
}

/// Its short id is `3f2a91bc`.
pub fn sample_parent() -> BatchId {
    BatchId("3f2a91bc-0c55-4b4f-9a55-0b7c5c7f0a01".parse().unwrap_or_default())
}

/// Nothing is known to be wrong.
pub fn sample_sync() -> Sync {
    Sync {
        phase: Phase::Idle.into(),
        reason: SyncReason::NothingToSend.into(),
        text: "Nothing to sync".into(),
        remedy: None,
        since: None,
        done: 0,
        total: 0,
        needs_review: 0,
        eta_s: None,
        batch: None,
        batches: Vec::new(),
        next_attempt_at: None,
        last_success_at: None,
        last_error: None,
        denied: Vec::new(),
    }
}
