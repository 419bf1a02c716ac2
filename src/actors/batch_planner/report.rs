//! What telemetry is told of a send once it is settled.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::millis;
use crate::ipc::api::BatchReport;
use crate::model::{Batch, BatchPhase, LastError, OpenBatch, Sequence};
use crate::policy::agenda::Disposition;
use crate::policy::verdict::Verdict;
use crate::transport::Network;

/// What is known of a send before it is settled.
pub(super) struct Report {
    pub(super) batch: OpenBatch,
    pub(super) sequence: Sequence,
    pub(super) verdict: Verdict,
    pub(super) error: LastError,
    pub(super) took: Duration,
    pub(super) network: Network,
}

impl Report {
    pub(super) fn finish(self, synced: usize, note: String) -> BatchReport {
        let answered = matches!(self.verdict, Verdict::Answered(_));
        BatchReport {
            id: self.batch.id,
            parent: self.batch.parent,
            sequence: self.sequence,
            records: self.batch.records,
            bytes: self.batch.bytes,
            attempt: self.batch.attempt,
            outcome: self.verdict.class().to_owned(),
            http_status: self.error.http_status,
            duration_ms: millis(self.took),
            synced,
            rule: self.batch.rule.name().to_owned(),
            note: if answered { note } else { format!("{}: {note}", self.error.message) },
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

pub(super) fn types_of(batch: &Batch) -> Vec<(String, u64)> {
    let mut types: BTreeMap<&str, u64> = BTreeMap::new();
    for record in &batch.records {
        *types.entry(&record.record_type).or_default() += 1;
    }
    types.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}
