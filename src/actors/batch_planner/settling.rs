//! What became of a batch goes to disk, and with it what was learned; then everyone is told.

use std::time::Duration;

use actix::prelude::*;

use super::BatchPlanner;
use super::report::{Report, described};
use crate::actors::tell;
use crate::model::BatchId;
use crate::policy::learned;
use crate::policy::scheduler::{Action, Disposition};
use crate::store::{Claim, SaveNote, Settle, SettleSummary};
use crate::telemetry::event::Event;

/// What was learned is kept at most this often, and whenever the breaker changes its mode.
const KEEP_EVERY: Duration = Duration::from_mins(1);

impl BatchPlanner {
    /// Settles a batch, and claims the next in the same commit where one is due.
    pub(super) fn settle(
        &mut self,
        id: BatchId,
        disposition: Disposition,
        report: Option<(Report, Vec<(String, u64)>)>,
        ctx: &mut Context<Self>,
    ) {
        let then = match self.look(|scheduler, view| scheduler.next_action(view)) {
            Action::Claim(order) if !self.draining => Some(Claim::new(order)),
            _ => None,
        };
        let done = described(&disposition);
        let retry = self.senses.config.borrow().retry.clone();
        let note = self.note();
        self.ask_store(
            Settle { batch: id, disposition, retry, then, note },
            ctx,
            move |planner, settled, ctx| {
                planner.settled(id, settled, report, done, ctx);
            },
        );
    }

    fn settled(
        &mut self,
        id: BatchId,
        settled: SettleSummary,
        report: Option<(Report, Vec<(String, u64)>)>,
        done: String,
        ctx: &mut Context<Self>,
    ) {
        let now = self.clock.now();
        if settled.foreign > 0 {
            let foreign = settled.foreign;
            tracing::warn!(batch_id = %id, records = foreign, "{foreign} results for records outside of batch {id} were ignored");
        }
        let into: Vec<BatchId> = settled.opened.iter().map(|part| part.id).collect();
        self.scheduler.track_batches(now, settled.opened);
        self.observe_progress();
        if let Some((report, types)) = report {
            let network = report.network;
            let report = report.finish(settled.synced.len(), done);
            tell(&self.partners.telemetry, Event::BatchEnded { report, types, network });
        }
        if !into.is_empty() {
            tell(&self.partners.telemetry, Event::BatchDivided { from: id, into });
        }
        if !settled.synced.is_empty() {
            tell(&self.partners.telemetry, Event::RecordsSynced { batch: id, ids: settled.synced });
        }
        for record in settled.quarantined {
            tell(&self.partners.telemetry, Event::RecordQuarantined { batch: id, record });
        }
        if let Some(batch) = settled.claimed {
            self.upload(batch, ctx);
        }
    }

    /// What was learned, when it is time to keep it: it goes along with a settlement.
    fn note(&mut self) -> Option<SaveNote> {
        let (now, mode) = (self.clock.now(), self.senses.breaker.borrow().mode.name());
        let recent = self.kept.is_some_and(|(at, was)| now.saturating_sub(at) < KEEP_EVERY && was == mode);
        (!recent).then(|| {
            self.kept = Some((now, mode));
            self.remember()
        })
    }

    pub(super) fn remember(&mut self) -> SaveNote {
        let learned = self.look(|scheduler, view| scheduler.learned_state(view));
        SaveNote { name: learned::NOTE, note: learned.to_note() }
    }
}
