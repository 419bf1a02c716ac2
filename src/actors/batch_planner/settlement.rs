//! Stores what became of a batch, and with it what was learned; then reports it.

use std::time::Duration;

use actix::prelude::*;
use futures_util::FutureExt;

use super::completion::{Completion, SendReport, Settlement};
use super::{BatchPlanner, LastSave};
use crate::actors::send_event;
use crate::api::BatchReport;
use crate::model::BatchId;
use crate::policy::learned;
use crate::policy::scheduler::{Action, Disposition};
use crate::store::{Claim, SaveNote, Settle, SettleSummary};
use crate::telemetry::event::Event;

/// What was learned is saved at most this often, and whenever the breaker changes its mode.
const SAVE_INTERVAL: Duration = Duration::from_mins(1);

impl BatchPlanner {
    /// Settles a batch, and claims the next in the same commit where one is due.
    pub(super) fn settle(
        &mut self,
        id: BatchId,
        disposition: Disposition,
        report: Option<SendReport>,
        ctx: &mut Context<Self>,
    ) {
        let then = match self.with_view(|scheduler, view| scheduler.next_action(view)) {
            Action::Claim(order) if !self.is_draining() => Some(Claim::new(order)),
            _ => None,
        };
        let retry = self.inputs.config.borrow().retry.clone();
        let note = self.due_note();
        let settlement = Box::new(Settlement { id, report });
        let settling = self.apply(Settle { batch: id, disposition, retry, then, note });
        self.perform(settling.map(|summary| Some(Completion::Settled(settlement, summary?))), ctx);
    }

    pub(super) fn on_settled(
        &mut self,
        settlement: Settlement,
        summary: SettleSummary,
        ctx: &mut Context<Self>,
    ) {
        let Settlement { id, report } = settlement;
        if summary.foreign > 0 {
            let foreign = summary.foreign;
            tracing::warn!(batch_id = %id, records = foreign, "{foreign} results for records outside of batch {id} were ignored");
        }
        let into: Vec<BatchId> = summary.opened.iter().map(|part| part.id).collect();
        self.scheduler.track_batches(self.inputs.clock.now(), summary.opened);
        self.track_progress();
        let telemetry = &self.peers.telemetry;
        if let Some(SendReport { report, types, network }) = report {
            let report = BatchReport { synced: summary.synced.len(), ..report };
            send_event(telemetry, Event::BatchEnded { report, types, network });
        }
        if !into.is_empty() {
            send_event(telemetry, Event::BatchDivided { from: id, into });
        }
        if !summary.synced.is_empty() {
            send_event(telemetry, Event::RecordsSynced { batch: id, ids: summary.synced });
        }
        for record in summary.quarantined {
            send_event(telemetry, Event::RecordQuarantined { batch: id, record });
        }
        if let Some(batch) = summary.claimed {
            self.upload(batch, ctx);
        }
    }

    /// What was learned, when it is time to save it: it shares the commit of a settlement.
    fn due_note(&mut self) -> Option<SaveNote> {
        let (now, mode) = (self.inputs.clock.now(), self.inputs.breaker.borrow().mode.name());
        let is_recent = |save: &LastSave| now.saturating_sub(save.at) < SAVE_INTERVAL && save.mode == mode;
        if self.last_save.as_ref().is_some_and(is_recent) {
            return None;
        }
        self.last_save = Some(LastSave { at: now, mode });
        Some(self.learned_note())
    }

    pub(super) fn learned_note(&mut self) -> SaveNote {
        let learned = self.with_view(|scheduler, view| scheduler.learned_state(view));
        SaveNote { name: learned::NOTE, note: learned.to_note() }
    }
}
