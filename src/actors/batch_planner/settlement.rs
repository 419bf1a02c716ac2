//! Stores the result of a batch together with the learned state, then reports it.

use std::time::Duration;

use actix::prelude::*;
use futures_util::FutureExt;

use super::completion::{Completion, PendingSettlement, SendReport};
use super::{BatchPlanner, LastSave, PlannerState};
use crate::actors::send_event;
use crate::api::BatchReport;
use crate::model::{BatchId, LastError};
use crate::policy::learned::{self, Contact, Learned};
use crate::policy::scheduler::{Action, Disposition};
use crate::store::{Claim, SaveNote, Settle, SettleSummary};
use crate::telemetry::event::Event;

/// The learned state is saved at most this often, and whenever the mode of the breaker changes, an outage begins or ends
/// or has another cause, or batches may or may no longer have several records of a key.
const SAVE_INTERVAL: Duration = Duration::from_mins(1);

impl BatchPlanner {
    /// Settles a batch as soon as the store is free.
    pub(super) fn settle_batch(&mut self, id: BatchId, disposition: Disposition, report: Option<SendReport>) {
        let report = report.map(Box::new);
        self.under_way.queue_settlement(PendingSettlement { id, disposition, report });
    }

    /// Stores a settlement, and claims the next batch in the same commit where one is due and may be sent.
    pub(super) fn store_settlement(&mut self, settlement: PendingSettlement, ctx: &mut Context<Self>) {
        let PendingSettlement { id, disposition, report } = settlement;
        let then = match self.with_view(|scheduler, view| scheduler.next_action(view)) {
            Action::Claim(order) if !self.is_draining() => Some(Claim::new(order)),
            _ => None,
        };
        let retry = self.inputs.config.borrow().retry.clone();
        let note = self.due_note();
        let settling = self.apply(Settle { batch: id, disposition, retry, then, note });
        let completion = move |summary| Completion::Settled(id, report, summary);
        self.spawn_store_action(settling.map(move |summary| summary.map(completion)), ctx);
    }

    pub(super) fn on_settled(
        &mut self,
        id: BatchId,
        report: Option<Box<SendReport>>,
        summary: SettleSummary,
        ctx: &mut Context<Self>,
    ) {
        if summary.foreign > 0 {
            let foreign = summary.foreign;
            tracing::warn!(batch_id = %id, records = foreign, "{foreign} results for records outside of batch {id} were ignored");
        }
        let into: Vec<BatchId> = summary.opened.iter().map(|part| part.id).collect();
        self.scheduler.track_batches(self.inputs.clock.now(), summary.opened);
        self.track_progress();
        let telemetry = &self.peers.telemetry;
        if let Some(report) = report {
            let SendReport { report, types, network } = *report;
            let report = BatchReport { synced: summary.synced.len(), ..report };
            send_event(telemetry, Event::BatchEnded { report, types, network });
        }
        if !into.is_empty() {
            send_event(telemetry, Event::BatchDivided { from: id, into });
        }
        if !summary.synced.is_empty() {
            send_event(telemetry, Event::RecordsSynced { batch: id, records: summary.synced });
        }
        for record in summary.quarantined {
            send_event(telemetry, Event::RecordQuarantined { batch: id, record });
        }
        if let Some(batch) = summary.claimed {
            self.upload_batch(batch, ctx);
        }
    }

    /// The learned state if it is due to be saved: it shares the commit of a settlement.
    fn due_note(&mut self) -> Option<SaveNote> {
        let (now, mode) = (self.inputs.clock.now(), self.inputs.breaker.borrow().mode.name());
        let one_per_key = self.scheduler.sends_one_per_key();
        let outage = self.outage_error().map(|error| (error.class.clone(), error.http_status));
        let is_recent = |save: &LastSave| {
            now.saturating_sub(save.at) < SAVE_INTERVAL
                && (save.mode, save.one_per_key) == (mode, one_per_key)
                && save.outage == outage
        };
        if self.last_save.as_ref().is_some_and(is_recent) {
            return None;
        }
        self.last_save = Some(LastSave { at: now, mode, one_per_key, outage });
        Some(self.learned_note())
    }

    /// Why the last send failed, until the server confirms records.
    fn outage_error(&self) -> Option<&LastError> {
        self.announced.last_error.as_ref().filter(|_| self.announced.outage_since.is_some())
    }

    pub(super) fn learned_note(&mut self) -> SaveNote {
        let PlannerState { last_success_at, outage_since, .. } = self.announced;
        let last_error = self.outage_error().cloned();
        let learned = self.with_view(|scheduler, view| scheduler.learned_state(view));
        let learned = Learned { contact: Contact { last_success_at, outage_since, last_error }, ..learned };
        SaveNote { name: learned::NOTE_NAME, note: learned.to_note() }
    }
}
