//! What the gateway counts, and its `OpenMetrics` text. Counts begin at the start of the process.

use std::fmt;
use std::sync::atomic::AtomicI64;

use actix_web::http::StatusCode;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::protocol::wire::{BatchAnswer, RecordStatus};

/// The content type of the text.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type ByStatus = Family<[(&'static str, u16); 1], Counter>;
type ByResult = Family<[(&'static str, &'static str); 1], Counter>;

/// The counters.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    batch_answers: ByStatus,
    lookups: ByStatus,
    records: ByResult,
    processing: Gauge<i64, AtomicI64>,
    forwarded: Counter,
    forward_waiting: Gauge<i64, AtomicI64>,
}

/// How many records of an answer have which result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) applied: u64,
    pub(crate) duplicate: u64,
    pub(crate) rejected: u64,
}

impl Tally {
    pub(crate) fn of(answer: &BatchAnswer) -> Self {
        let mut tally = Self::default();
        for result in &answer.results {
            match result.status {
                RecordStatus::Applied => tally.applied += 1,
                RecordStatus::Duplicate => tally.duplicate += 1,
                RecordStatus::Rejected => tally.rejected += 1,
                RecordStatus::Retry => {}
            }
        }
        tally
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("fieldsync_gateway");
        let batch_answers = ByStatus::default();
        let lookups = ByStatus::default();
        let records = ByResult::default();
        let processing = Gauge::default();
        let forwarded = Counter::default();
        let forward_waiting = Gauge::default();
        registry.register(
            "batch_answers",
            "Requests with a batch, by the status of their answer",
            batch_answers.clone(),
        );
        registry.register(
            "lookups",
            "Look-ups of an outcome, by the status of their answer",
            lookups.clone(),
        );
        registry.register("records", "Records of settled batches, by their result", records.clone());
        registry.register("processing", "Batches that are being processed", processing.clone());
        registry.register("forwarded", "Records that this gateway handed on", forwarded.clone());
        registry.register(
            "forward_waiting",
            "Applied records that are to be handed on, as the gateway that does so last saw it",
            forward_waiting.clone(),
        );
        let metrics =
            Self { registry, batch_answers, lookups, records, processing, forwarded, forward_waiting };
        // A series that is there from the start shows its first step.
        metrics.records_settled(Tally::default());
        metrics
    }

    pub(crate) fn batch_answered(&self, status: StatusCode) {
        count(&self.batch_answers, status);
    }

    pub(crate) fn looked_up(&self, status: StatusCode) {
        count(&self.lookups, status);
    }

    pub(crate) fn records_settled(&self, tally: Tally) {
        for (result, records) in
            [("applied", tally.applied), ("duplicate", tally.duplicate), ("rejected", tally.rejected)]
        {
            self.records.get_or_create(&[("result", result)]).inc_by(records);
        }
    }

    pub(crate) fn processing(&self, batches: usize) {
        self.processing.set(i64::try_from(batches).unwrap_or(i64::MAX));
    }

    pub(crate) fn forwarded(&self, records: u64) {
        self.forwarded.inc_by(records);
    }

    pub(crate) fn forward_waiting(&self, records: u64) {
        self.forward_waiting.set(i64::try_from(records).unwrap_or(i64::MAX));
    }

    /// All of it as text.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn count(family: &ByStatus, status: StatusCode) {
    family.get_or_create(&[("status", status.as_u16())]).inc();
}
