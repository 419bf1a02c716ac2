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
    Batch, BatchId, BatchPhase, BatchRecord, OpenBatch, QueuePosition, RecordId, Sequence, SizeRule, Stage,
};
use crate::policy::verdict::Verdict;
use crate::protocol::wire::RecordResult;

/// The largest payload that is kept in memory for a canary.
const CANARY_BYTES_MAX: usize = 16 << 10;

impl BatchPlanner {
    /// Sends a record that the server already has. This settles nothing and changes nothing on disk.
    pub(super) fn send_canary(&mut self, record: BatchRecord, sequence: Sequence, ctx: &mut Context<Self>) {
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
        self.under_way.canary = Some(id);
        self.scheduler.start_canary(self.inputs.clock.now(), id);
        let upload = Upload { batch, response_deadline: None, is_denied_alone: false, new_connection: false };
        let sending = self.peers.breaker.send(upload).map(move |result| {
            let verdict = result.ok().and_then(Result::ok).map(|result| result.verdict);
            Completion::CanaryReplied(id, verdict)
        });
        self.spawn_request(sending, ctx);
    }

    pub(super) fn on_canary_reply(&mut self, id: BatchId, verdict: Option<&Verdict>) {
        self.under_way.canary = None;
        match verdict {
            Some(verdict) => {
                self.with_view(|scheduler, view| scheduler.on_canary_response(view, id, verdict));
            }
            None => self.scheduler.canary_deferred(self.inputs.clock.now(), id),
        }
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
