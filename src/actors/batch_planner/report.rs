//! What is told of a send: to the journal while it is under way, to telemetry once it is settled.

use std::time::Duration;

use crate::api::BatchReport;
use crate::clock::millis;
use crate::journal;
use crate::model::{Batch, BatchId, BatchPhase, LastError, Network, OpenBatch, Sequence};
use crate::policy::outcome_reply::OutcomeReply;
use crate::policy::scheduler::Disposition;
use crate::policy::service_time::{Forecast, Load};
use crate::policy::verdict::Verdict;

/// What is known of a send before it is settled.
pub(super) struct Report {
    pub(super) batch: OpenBatch,
    pub(super) sequence: Sequence,
    pub(super) verdict: Verdict,
    pub(super) error: LastError,
    pub(super) took: Duration,
    pub(super) network: Network,
    pub(super) expected: Option<Forecast>,
    pub(super) time_limit: Duration,
}

impl Report {
    pub(super) fn finish(self, synced: usize, note: String) -> BatchReport {
        let answered = matches!(self.verdict, Verdict::Completed(_));
        // This reaches the log. A message of the server may quote payloads, so its code has to do.
        let said = match self.error {
            LastError { http_status: Some(status), code: Some(code), .. } => {
                format!("the answer was HTTP {status} {code}")
            }
            LastError { message, .. } => message,
        };
        BatchReport {
            id: self.batch.id,
            parent: self.batch.parent,
            sequence: self.sequence,
            records: self.batch.records,
            bytes: self.batch.bytes,
            attempt: self.batch.attempt,
            outcome: self.verdict.outcome().into(),
            http_status: self.error.http_status,
            duration_ms: millis(self.took),
            synced,
            rule: self.batch.rule.into(),
            expected_ms: self.expected.map(|expected| expected.mean_ms()),
            at_most_ms: self.expected.map(|expected| expected.most_ms()),
            time_limit_ms: millis(self.time_limit),
            note: if answered { note } else { format!("{said}: {note}") },
            at: self.error.at,
        }
    }
}

pub(super) fn described(disposition: &Disposition) -> String {
    match disposition {
        Disposition::Close { .. } => "settled record by record".into(),
        Disposition::Keep { phase: BatchPhase::Unclear, .. } => "its outcome is looked up".into(),
        Disposition::Keep { .. } => "it waits to be sent again".into(),
        Disposition::Cut { cut, .. } => format!("cut into {} parts", cut.parts.len()),
        Disposition::Rename { .. } => "it is sent again under a new id".into(),
    }
}

pub(super) fn log_sending(batch: &Batch) {
    let Batch { open, sequence, .. } = batch;
    tracing::debug!(
        batch_id = %open.id,
        records = open.records,
        bytes = open.bytes,
        attempt = open.attempt,
        "batch {} ({sequence}, {} records) is sent, attempt {}",
        open.id,
        open.records,
        open.attempt,
    );
}

/// Where the server could not be asked, it is asked again as long as it takes: a line each would say nothing.
pub(super) fn log_look_up(id: BatchId, found: &OutcomeReply, disposition: Option<&Disposition>) {
    let class = found.class();
    match (found, disposition) {
        (OutcomeReply::Failed | OutcomeReply::Throttled | OutcomeReply::Unreachable, None) => {
            tracing::debug!(batch_id = %id, outcome = class, "batch {id} cannot be looked up: {class}");
        }
        (_, disposition) => {
            let then = disposition.map_or("it is asked for again".to_owned(), described);
            tracing::info!(
                name: journal::BATCH_LOOKED_UP,
                batch_id = %id,
                outcome = class,
                "looked up batch {id}: {class}; {then}"
            );
        }
    }
}

/// What its duration depends on.
pub(super) fn load_of(batch: &Batch) -> Load {
    let mut load = Load::default();
    for record in &batch.records {
        load.add(&record.record_type, record.payload.len() as u64);
    }
    load
}

pub(super) fn types_of(batch: &Batch) -> Vec<(String, u64)> {
    load_of(batch).types().iter().map(|(name, count)| (name.clone(), u64::from(*count))).collect()
}
