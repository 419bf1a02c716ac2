//! Hears of everything that happens: writes it to the journal, adds it up, passes it on.
//!
//! What was added up, and the list of recent batches, is kept in the store, now and then and at the
//! end: losing the last minutes of it in a crash is cheaper than writing flash for them.

mod log;

use std::time::Duration;

use actix::prelude::*;

use super::queue_store::{QueueStore, Write};
use super::{ConfigWatch, Drain, Ping};
use crate::api::{BatchReport, BreakerChange, Connectivity, RecordChange, TelemetryReport};
use crate::clock::{Clock, wall_ms};
use crate::model::{BatchId, RecordState};
use crate::store::{QuarantinedRecord, SaveNote};
use crate::telemetry::audience::Audience;
use crate::telemetry::event::Event;
use crate::telemetry::feed::Feed;
use crate::telemetry::history::{self, History};
use crate::telemetry::measurements::Measurements;
use log::Log;

/// Under which the measurements are kept in the store.
pub const NOTE: &str = "telemetry";
/// Measurements and recent batches are kept at most this often.
const KEEP_EVERY: Duration = Duration::from_mins(10);
/// Events that wait before more are dropped.
const MAILBOX: usize = 1024;

/// The actor.
pub struct Telemetry {
    measurements: Measurements,
    history: History,
    log: Log,
    config: ConfigWatch,
    clock: Clock,
    feed: Feed,
    store: Option<Addr<QueueStore>>,
    kept_at: Duration,
}

/// The store, once it runs.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Keep(pub Addr<QueueStore>);

/// Asks for the four answers.
#[derive(Message)]
#[rtype(result = "TelemetryReport")]
pub struct Report;

/// Asks for the latest batches, the newest first.
#[derive(Message)]
#[rtype(result = "Vec<BatchReport>")]
pub struct RecentBatches(pub usize);

/// Asks for the recent sends of a batch and of those that it came of, the oldest first.
#[derive(Message)]
#[rtype(result = "Vec<BatchReport>")]
pub struct Lineage(pub BatchId);

impl Telemetry {
    /// Goes on from what a former life kept.
    pub fn new(kept: Option<&[u8]>, history: History, config: ConfigWatch, clock: Clock, feed: Feed) -> Self {
        let measurements = kept.map(serde_json::from_slice).transpose().unwrap_or_else(|error| {
            tracing::warn!(%error, "the measurements of former days do not read and begin anew");
            None
        });
        Self {
            measurements: measurements.unwrap_or_default(),
            history,
            log: Log::default(),
            config,
            clock,
            feed,
            store: None,
            kept_at: Duration::ZERO,
        }
    }

    /// Both notes are on their way when this returns, so that one commit takes them.
    fn keep(&mut self) -> impl Future<Output = ()> + use<> {
        self.kept_at = self.clock.now();
        let measured = serde_json::to_vec(&self.measurements).ok();
        let notes = [measured.map(|note| (NOTE, note)), Some((history::NOTE, self.history.to_note()))];
        let sent: Vec<_> = notes
            .into_iter()
            .flatten()
            .filter_map(|(name, note)| Some(self.store.as_ref()?.send(Write(SaveNote { name, note }))))
            .collect();
        async move {
            for kept in sent {
                if let Ok(Err(error)) = kept.await {
                    tracing::warn!(%error, "measurements and recent batches were not kept");
                }
            }
        }
    }

    fn quarantined(&mut self, record: QuarantinedRecord) {
        let QuarantinedRecord { id, submitter, record_type, error } = record;
        self.measurements.record_quarantined(&record_type, error.at);
        let change = RecordChange {
            record_type: Some(record_type),
            last_error: Some(error),
            ..RecordChange::changed_to(id, RecordState::Quarantined)
        };
        let mut redacted = change.clone();
        Audience::OTHERS.redact_change(&mut redacted, submitter);
        self.feed.announce_by_reader("record", &change, Some(submitter), &redacted);
    }

    fn keep_now_and_then(&mut self, ctx: &mut Context<Self>) {
        if self.clock.now().saturating_sub(self.kept_at) < KEEP_EVERY {
            return;
        }
        ctx.spawn(self.keep().into_actor(self));
    }
}

impl Actor for Telemetry {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<Event> for Telemetry {
    type Result = ();

    fn handle(&mut self, event: Event, ctx: &mut Self::Context) {
        match event {
            Event::BatchEnded { mut report, types, network } => {
                self.history.resolve_parent(&mut report);
                self.log.batch(&report);
                self.measurements.batch_ended(&report, &types, &network);
                self.feed.announce("batch", &report);
                self.history.push(report);
                self.keep_now_and_then(ctx);
            }
            Event::BatchDivided { from, into } => {
                log::divided(from, &into);
                self.history.record_division(from, &into);
            }
            Event::RecordsSynced { batch, ids } => {
                for id in ids {
                    log::synced(batch, id);
                    self.feed.announce("record", &RecordChange::changed_to(id, RecordState::Synced));
                }
            }
            Event::RecordQuarantined { batch, record } => {
                log::quarantined(batch, record.id, &record.error);
                self.quarantined(record);
            }
            Event::RecordAddedToReview(record) => {
                log::added_to_review(record.id);
                self.quarantined(record);
            }
            Event::BreakerChanged(state) => {
                self.log.breaker(&state);
                let (mode, failures) = (state.mode.name(), state.consecutive_failures);
                let change = BreakerChange { mode: mode.to_owned(), consecutive_failures: failures };
                self.feed.announce("breaker", &change);
            }
            Event::LinkChanged(link) => {
                self.log.link(&link);
                self.feed.announce("connectivity", &Connectivity::from(link));
            }
        }
    }
}

impl Handler<Keep> for Telemetry {
    type Result = ();

    fn handle(&mut self, Keep(store): Keep, _: &mut Self::Context) {
        self.store = Some(store);
    }
}

impl Handler<Report> for Telemetry {
    type Result = MessageResult<Report>;

    fn handle(&mut self, Report: Report, _: &mut Self::Context) -> Self::Result {
        let window = self.config.borrow().telemetry.window.0;
        MessageResult(self.measurements.report(wall_ms(), window))
    }
}

impl Handler<RecentBatches> for Telemetry {
    type Result = MessageResult<RecentBatches>;

    fn handle(&mut self, RecentBatches(limit): RecentBatches, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.history.latest_batches(limit))
    }
}

impl Handler<Lineage> for Telemetry {
    type Result = MessageResult<Lineage>;

    fn handle(&mut self, Lineage(batch): Lineage, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.history.find_lineage(batch))
    }
}

impl Handler<Ping> for Telemetry {
    type Result = ();

    fn handle(&mut self, Ping: Ping, _: &mut Self::Context) {}
}

impl Handler<Drain> for Telemetry {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Drain: Drain, _: &mut Self::Context) -> Self::Result {
        Box::pin(self.keep())
    }
}
