//! The gateway's metrics, as `OpenMetrics` text. Counters start at zero with the process.

mod destination;

use std::fmt;
use std::sync::atomic::AtomicI64;

use actix_web::http::StatusCode;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::protocol::wire::{BatchResponse, RecordStatus};
pub(crate) use destination::{ConditionLabel, DestinationMetrics, VerdictCounts};

/// The content type of [`Metrics::encode_text`].
pub(crate) const OPEN_METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type StatusCounter = Family<[(&'static str, u16); 1], Counter>;
type ResultCounter = Family<[(&'static str, &'static str); 1], Counter>;

#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    batch_answers: StatusCounter,
    lookups: StatusCounter,
    records: ResultCounter,
    processing: Gauge<i64, AtomicI64>,
    forwarded: Counter,
    forward_waiting: Gauge<i64, AtomicI64>,
    pub(crate) destination: DestinationMetrics,
    forward_refused: Gauge<i64, AtomicI64>,
    forward_parked_records: Gauge<i64, AtomicI64>,
    forward_parked_keys: Gauge<i64, AtomicI64>,
    forward_stopped: Gauge<i64, AtomicI64>,
}

/// How many records of a response have which result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResultCounts {
    pub(crate) applied: u64,
    pub(crate) duplicate: u64,
    pub(crate) rejected: u64,
    pub(crate) retry: u64,
}

impl ResultCounts {
    pub(crate) fn from_response(response: &BatchResponse) -> Self {
        let mut counts = Self::default();
        for result in &response.results {
            match result.status {
                RecordStatus::Applied => counts.applied += 1,
                RecordStatus::Duplicate => counts.duplicate += 1,
                RecordStatus::Rejected => counts.rejected += 1,
                RecordStatus::Retry => counts.retry += 1,
            }
        }
        counts
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("fieldsync_gateway");
        let batch_answers = StatusCounter::default();
        let lookups = StatusCounter::default();
        let records = ResultCounter::default();
        let processing = Gauge::default();
        let forwarded = Counter::default();
        let forward_waiting = Gauge::default();
        registry.register("batch_answers", "Batch requests, by response status", batch_answers.clone());
        registry.register("lookups", "Outcome queries, by response status", lookups.clone());
        registry.register("records", "Records of settled batches, by result", records.clone());
        registry.register("processing", "Batches in flight", processing.clone());
        registry.register("forwarded", "Records that this gateway forwarded", forwarded.clone());
        registry.register(
            "forward_waiting",
            "Applied records not yet forwarded, as last seen by the gateway that forwards",
            forward_waiting.clone(),
        );
        let forward_refused = Gauge::default();
        let forward_parked_records = Gauge::default();
        let forward_parked_keys = Gauge::default();
        let forward_stopped = Gauge::default();
        for (name, help, gauge) in [
            ("forward_refused", "Refused records that need review", &forward_refused),
            (
                "forward_parked_records",
                "Records that wait behind another one of their key",
                &forward_parked_records,
            ),
            (
                "forward_parked_keys",
                "Keys, and records without a key, whose first record was refused or is sent later",
                &forward_parked_keys,
            ),
            ("forward_stopped", "Whether the receiver wants no more requests (410)", &forward_stopped),
        ] {
            registry.register(name, help, gauge.clone());
        }
        let destination = DestinationMetrics::register(&mut registry);
        let metrics = Self {
            registry,
            batch_answers,
            lookups,
            records,
            processing,
            forwarded,
            forward_waiting,
            destination,
            forward_refused,
            forward_parked_records,
            forward_parked_keys,
            forward_stopped,
        };
        // A series that exists from the start shows its first increment.
        metrics.count_records(ResultCounts::default());
        metrics
    }

    pub(crate) fn count_batch_response(&self, status: StatusCode) {
        count_status(&self.batch_answers, status);
    }

    pub(crate) fn count_query_response(&self, status: StatusCode) {
        count_status(&self.lookups, status);
    }

    pub(crate) fn count_records(&self, counts: ResultCounts) {
        for (result, records) in
            [("applied", counts.applied), ("duplicate", counts.duplicate), ("rejected", counts.rejected)]
        {
            self.records.get_or_create(&[("result", result)]).inc_by(records);
        }
    }

    pub(crate) fn set_processing(&self, batches: usize) {
        self.processing.set(i64::try_from(batches).unwrap_or(i64::MAX));
    }

    pub(crate) fn count_forwarded(&self, records: u64) {
        self.forwarded.inc_by(records);
    }

    pub(crate) fn set_forward_waiting(&self, records: u64) {
        self.forward_waiting.set(i64::try_from(records).unwrap_or(i64::MAX));
    }

    /// Counts of what waits in the lanes of forwarding.
    pub(crate) fn set_forward_lanes(&self, refused: u64, parked_records: u64, parked_keys: u64) {
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.forward_refused.set(number(refused));
        self.forward_parked_records.set(number(parked_records));
        self.forward_parked_keys.set(number(parked_keys));
    }

    pub(crate) fn set_forward_stopped(&self, is_stopped: bool) {
        self.forward_stopped.set(i64::from(is_stopped));
    }

    /// All metrics as text.
    pub(crate) fn encode_text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn count_status(family: &StatusCounter, status: StatusCode) {
    family.get_or_create(&[("status", status.as_u16())]).inc();
}
