//! Receives all events: writes them to the journal, adds them to the measurements, and publishes them in the feed.
//!
//! Measurements and recent batches are handed to the store periodically, when a run of batches has ended, and at the end.
//! They share a commit that the store makes anyway, so they cost no fsync. A crash loses those of the last minutes, which
//! is better than wearing out flash.

mod alert_log;
mod log;
mod save_schedule;

use std::time::Duration;

use actix::prelude::*;
use futures_util::future::OptionFuture;
use tokio::sync::watch;

use super::otlp_exporter::ExportAlert;
use super::queue_store::{MAINTENANCE_DELAY, QueueStore, SaveWithNextCommit};
use super::{ConfigWatch, Drain, Ping};
use crate::api::{
    AlertChange, BatchReport, BreakerChange, ConnectivityStatus, RecordChange, TelemetryReport,
};
use crate::clock::{Clock, SteadyClock, local_hour, wall_ms};
use crate::model::{BatchId, RecordState};
use crate::store::{NoteChange, QuarantinedRecord, SyncedRecord};
use crate::telemetry::audience::Audience;
use crate::telemetry::event::Event;
use crate::telemetry::feed::Feed;
use crate::telemetry::history::{self, History};
use crate::telemetry::measurements::Measurements;
use crate::telemetry::metrics::counters::Counters;
use crate::telemetry::metrics::otlp::AlertLogRecord;
use crate::telemetry::outcomes::OutcomeReporter;
use alert_log::AlertLog;
use log::JournalLog;
use save_schedule::SaveSchedule;

/// A run of batches has ended after this time without one. It is short enough that the maintenance of the store, which
/// follows the run, saves the measurements.
const RUN_END_DELAY: Duration = Duration::from_secs(2);
const _: () = assert!(RUN_END_DELAY.as_secs() < MAINTENANCE_DELAY.as_secs());
/// Events in the mailbox before more are dropped.
const MAILBOX_EVENTS_MAX: usize = 1024;

/// The actor.
pub struct Telemetry {
    measurements: Measurements,
    history: History,
    counters: watch::Sender<Counters>,
    log: JournalLog,
    alert_log: AlertLog,
    /// Results of sends, for the alerts.
    outcomes: OutcomeReporter,
    config: ConfigWatch,
    clock: Clock,
    feed: Feed,
    store: Option<Addr<QueueStore>>,
    exporter: Option<Recipient<ExportAlert>>,
    /// For the saves: it does not stop in suspend.
    steady: SteadyClock,
    saves: SaveSchedule,
    run_end: Option<SpawnHandle>,
}

/// Attaches the store, which starts later.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AttachStore(pub Addr<QueueStore>);

/// Attaches the exporter, which starts later.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AttachExporter(pub Recipient<ExportAlert>);

/// Requests the answers to the customer's four questions.
#[derive(Message)]
#[rtype(result = "TelemetryReport")]
pub struct ReportMeasurements;

/// Requests the latest batches, the newest first.
#[derive(Message)]
#[rtype(result = "Vec<BatchReport>")]
pub struct RecentBatches(pub usize);

/// Requests the recent sends of a batch and of its ancestors, the oldest first.
#[derive(Message)]
#[rtype(result = "Vec<BatchReport>")]
pub struct Lineage(pub BatchId);

/// Requests the sends of a batch and of its ancestors, and those of the batches that it was split into.
#[derive(Message)]
#[rtype(result = "(Vec<BatchReport>, Vec<BatchReport>)")]
pub struct BatchSends(pub BatchId);

/// Requests the batches whose ids begin or end with these hexadecimal digits.
#[derive(Message)]
#[rtype(result = "Vec<BatchId>")]
pub struct FindBatches {
    /// Without hyphens.
    pub digits: String,
    /// Batches that may not have been sent yet.
    pub open: Vec<BatchId>,
}

impl Telemetry {
    /// Continues with the measurements of the previous run.
    pub fn new(
        measurements: Measurements,
        history: History,
        counters: watch::Sender<Counters>,
        config: ConfigWatch,
        clock: Clock,
        feed: Feed,
        outcomes: OutcomeReporter,
    ) -> Self {
        Self {
            measurements,
            history,
            counters,
            log: JournalLog::default(),
            alert_log: AlertLog::default(),
            outcomes,
            config,
            clock,
            feed,
            store: None,
            exporter: None,
            steady: SteadyClock::continue_from(0),
            saves: SaveSchedule::default(),
            run_end: None,
        }
    }

    /// What was measured since the last save, and the recent batches.
    fn unsaved_notes(&self) -> SaveWithNextCommit {
        let mut notes = self.measurements.unsaved_notes();
        notes.push(NoteChange { name: history::NOTE_NAME.into(), note: Some(self.history.to_note()) });
        SaveWithNextCommit(notes)
    }

    fn announce_quarantined(&mut self, record: QuarantinedRecord) {
        let QuarantinedRecord { id, submitter, record_type, error } = record;
        self.measurements.record_quarantined(&record_type, error.at);
        let change = RecordChange {
            record_type: Some(record_type),
            last_error: Some(error),
            ..RecordChange::changed_to(id, RecordState::Quarantined)
        };
        self.announce_change(&change, submitter);
    }

    /// Other users see less of it.
    fn announce_change(&self, change: &RecordChange, submitter: u32) {
        let mut redacted = change.clone();
        Audience::OTHERS.redact_change(&mut redacted, submitter);
        self.feed.publish_redacted("record", change, Some(submitter), &redacted);
    }

    fn export_alert(&self, change: &AlertChange) {
        let record = AlertLogRecord::new(change, wall_ms());
        if let Some(exporter) = &self.exporter
            && let Err(error) = exporter.try_send(ExportAlert(record))
        {
            tracing::debug!(%error, "an alert was not exported: the mailbox of the exporter is full");
        }
    }

    fn on_measured(&mut self, ctx: &mut Context<Self>) {
        if self.saves.on_measured(self.steady.now().steady) {
            self.save_notes();
        }
        if let Some(earlier) = self.run_end.take() {
            ctx.cancel_future(earlier);
        }
        self.run_end = Some(ctx.run_later(RUN_END_DELAY, |actor, _| {
            actor.run_end = None;
            if actor.saves.on_run_ended(actor.steady.now().steady) {
                actor.save_notes();
            }
        }));
    }

    fn save_notes(&mut self) {
        let Some(store) = &self.store else { return };
        match store.try_send(self.unsaved_notes()) {
            Ok(()) => {
                self.measurements.mark_saved();
                self.saves.on_saved(self.steady.now().steady);
            }
            Err(error) => tracing::debug!(%error, "the store is busy: measurements are saved later"),
        }
    }
}

impl Actor for Telemetry {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_EVENTS_MAX);
    }
}

impl Handler<Event> for Telemetry {
    type Result = ();

    fn handle(&mut self, event: Event, ctx: &mut Self::Context) {
        match event {
            Event::BatchEnded { mut report, types, network } => {
                self.history.resolve_parent(&mut report);
                self.log.log_batch(&report);
                self.outcomes.record(&report, self.config.borrow().batch.micro_batch);
                self.measurements.batch_ended(&report, &types, &network, local_hour(report.at));
                self.counters.send_modify(|counters| counters.batch_ended(&report, &network));
                self.feed.publish("batch", &report);
                self.history.record_send(report);
                self.on_measured(ctx);
            }
            Event::OutcomeQueried { reply } => {
                self.counters.send_modify(|counters| counters.outcome_queried(reply));
            }
            Event::BatchDivided { from, into } => {
                self.counters.send_modify(|counters| counters.batch_divided(into.len()));
                log::log_division(from, &into);
                self.history.record_division(from, &into);
            }
            Event::RecordsSynced { batch, records } => {
                self.counters.send_modify(|counters| counters.records_synced(&records));
                for SyncedRecord { id, submitter, receipt, .. } in records {
                    log::log_synced(batch, id);
                    let change =
                        RecordChange { receipt, ..RecordChange::changed_to(id, RecordState::Synced) };
                    self.announce_change(&change, submitter);
                }
            }
            Event::RecordQuarantined { batch, record } => {
                log::log_quarantined(batch, record.id, &record.error);
                self.announce_quarantined(record);
            }
            Event::RecordAddedToReview(record) => {
                log::log_added_to_review(record.id);
                self.announce_quarantined(record);
            }
            Event::BreakerChanged(state) => {
                self.log.log_breaker(&state);
                self.counters.send_modify(|counters| counters.breaker_changed(&state));
                let (mode, failures) = (state.mode.name(), state.consecutive_failures);
                let change = BreakerChange { mode: mode.to_owned(), consecutive_failures: failures };
                self.feed.publish("breaker", &change);
            }
            Event::InFlightLimitChanged(in_flight) => log::log_in_flight_limit(&in_flight),
            Event::LinkChanged(link) => {
                self.log.log_link(&link);
                self.counters.send_modify(|counters| counters.link_changed(link.state));
                self.feed.publish("connectivity", &ConnectivityStatus::from(link));
            }
            Event::AlertChanged(change) => {
                self.alert_log.log_change(&change, self.clock.now());
                self.feed.publish("alert", &change);
                if change.active {
                    let name = change.alert.alert.to_string();
                    self.counters.send_modify(|counters| counters.alert_started(&name));
                }
                self.export_alert(&change);
            }
            Event::AlertRestored(alert) => self.alert_log.log_restored(&alert),
        }
    }
}

impl Handler<AttachExporter> for Telemetry {
    type Result = ();

    fn handle(&mut self, AttachExporter(exporter): AttachExporter, _: &mut Self::Context) {
        self.exporter = Some(exporter);
    }
}

impl Handler<AttachStore> for Telemetry {
    type Result = ();

    fn handle(&mut self, AttachStore(store): AttachStore, _: &mut Self::Context) {
        self.store = Some(store);
    }
}

impl Handler<ReportMeasurements> for Telemetry {
    type Result = MessageResult<ReportMeasurements>;

    fn handle(&mut self, ReportMeasurements: ReportMeasurements, _: &mut Self::Context) -> Self::Result {
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

impl Handler<BatchSends> for Telemetry {
    type Result = MessageResult<BatchSends>;

    fn handle(&mut self, BatchSends(batch): BatchSends, _: &mut Self::Context) -> Self::Result {
        MessageResult((self.history.find_lineage(batch), self.history.find_parts(batch)))
    }
}

impl Handler<FindBatches> for Telemetry {
    type Result = MessageResult<FindBatches>;

    fn handle(&mut self, FindBatches { digits, open }: FindBatches, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.history.find_by_part(&digits, &open))
    }
}

impl Handler<Ping> for Telemetry {
    type Result = ();

    fn handle(&mut self, Ping: Ping, _: &mut Self::Context) {}
}

impl Handler<Drain> for Telemetry {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Drain: Drain, _: &mut Self::Context) -> Self::Result {
        let handed_over = self.store.as_ref().map(|store| store.send(self.unsaved_notes()));
        Box::pin(async move {
            if let Some(Err(error)) = OptionFuture::from(handed_over).await {
                tracing::warn!(%error, "measurements and recent batches could not be saved");
            }
        })
    }
}
