//! Controls: a record that the server confirmed is sent once more where nobody else is left to show
//! whether it is the server that fails. It answers "duplicate", or it is in trouble.

use std::collections::HashSet;
use std::sync::Arc;

use actix::prelude::*;

use super::BatchPlanner;
use crate::actors::{Upload, Uploaded};
use crate::model::{
    Batch, BatchId, BatchPhase, OpenBatch, QueuePosition, RecordId, Sequence, SizeRule, Stage,
};
use crate::protocol::wire::RecordResult;

/// The largest payload that is remembered.
const MAX_SAMPLE_BYTES: usize = 16 << 10;

impl BatchPlanner {
    /// Sends a record that the server has already: nothing is settled by it, and nothing is kept of it.
    pub(super) fn control(&mut self, sequence: Sequence, ctx: &mut Context<Self>) {
        let Some(record) = self.sample.clone() else { return };
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
        tracing::info!(batch_id = %id, "batch {id} sends record {} once more, as a control", record.id);
        self.busy = true;
        let batch = Arc::new(Batch { open, sequence, records: vec![record] });
        let upload = Upload { batch, patience: None, is_denied_alone: false };
        let sent = self.partners.breaker.send(upload).into_actor(self);
        ctx.spawn(sent.map(move |answer, planner, ctx| {
            planner.busy = false;
            if let Ok(Ok(Uploaded { verdict, .. })) = answer {
                planner.look(|scheduler, view| scheduler.on_canary_response(view, id, &verdict));
            }
            planner.step(ctx);
        }));
    }

    /// Remembers a small record that the server confirmed.
    pub(super) fn sample(&mut self, batch: &Batch, results: &[RecordResult]) {
        let stored = results.iter().filter(|result| result.status.is_stored());
        let stored: HashSet<RecordId> = stored.map(|result| result.id).collect();
        let confirmed = batch.records.iter().filter(|record| stored.contains(&record.id));
        let smallest = confirmed.min_by_key(|record| record.payload.len());
        if let Some(record) = smallest.filter(|record| record.payload.len() <= MAX_SAMPLE_BYTES) {
            self.sample = Some(record.clone());
            self.scheduler.canary_confirmed();
        }
    }
}
