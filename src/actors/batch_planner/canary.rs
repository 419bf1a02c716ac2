//! Canaries: if no other record is left to show whether the server fails, a record that the server already confirmed is
//! sent once more. Either the server responds `duplicate`, or it fails although the record is not faulty.

use std::collections::HashSet;
use std::sync::Arc;

use actix::prelude::*;
use futures_util::FutureExt;

use super::BatchPlanner;
use super::completion::Completion;
use crate::actors::Upload;
use crate::model::{
    Batch, BatchId, BatchPhase, OpenBatch, QueuePosition, RecordId, Sequence, SizeRule, Stage,
};
use crate::protocol::wire::RecordResult;

/// The largest payload that is kept in memory for a canary.
const CANARY_BYTES_MAX: usize = 16 << 10;

impl BatchPlanner {
    /// Sends a record that the server already has. This settles nothing and changes nothing on disk.
    pub(super) fn send_canary(&mut self, sequence: Sequence, ctx: &mut Context<Self>) {
        let Some(record) = self.canary.clone() else { return };
        let open = OpenBatch {
            id: BatchId::new(),
            parent: None,
            stage: Stage::Single,
            rule: SizeRule::Split,
            place: QueuePosition(0),
            records: 1,
            bytes: record.payload.len() as u64,
            attempt: 1,
            lone_failures: 0,
            phase: BatchPhase::InFlight,
        };
        let id = open.id;
        tracing::info!(batch_id = %id, "batch {id} sends record {} once more, as a canary", record.id);
        let batch = Arc::new(Batch { open, sequence, records: vec![record] });
        let upload = Upload { batch, response_deadline: None, is_denied_alone: false };
        let sending = self.peers.breaker.send(upload).map(move |result| {
            let verdict = result.ok().and_then(Result::ok).map(|result| result.verdict);
            Some(Completion::CanaryReplied(id, verdict))
        });
        self.spawn_action(sending, ctx);
    }

    /// Keeps a small record that the server confirmed.
    pub(super) fn remember_canary(&mut self, batch: &Batch, results: &[RecordResult]) {
        let stored = results.iter().filter(|result| result.status.is_stored());
        let stored: HashSet<RecordId> = stored.map(|result| result.id).collect();
        let confirmed = batch.records.iter().filter(|record| stored.contains(&record.id));
        let smallest = confirmed.min_by_key(|record| record.payload.len());
        if let Some(record) = smallest.filter(|record| record.payload.len() <= CANARY_BYTES_MAX) {
            self.canary = Some(record.clone());
            self.scheduler.canary_confirmed();
        }
    }
}
