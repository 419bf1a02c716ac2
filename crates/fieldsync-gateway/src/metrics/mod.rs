//! The gateway's metrics, as `OpenMetrics` or in the text format of Prometheus. Counters start at zero with the process.

mod configuration;
mod destination;
mod fleet;
mod forward;
mod http;
mod ledger;
mod ledger_size;
mod process;
mod prometheus_text;

use std::fmt;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use actix_web::http::StatusCode;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::clock::{Clock, wall_ms};
use crate::protocol::wire::{BatchResponse, RecordStatus};
pub(crate) use configuration::{ConfigurationMetrics, TokenOwner};
pub(crate) use destination::{ConditionLabel, DestinationMetrics, VerdictCounts};
pub(crate) use fleet::FleetMetrics;
pub(crate) use forward::{ForwardMetrics, ForwardOutcomeLabel};
pub(crate) use http::{AuthFailure, HttpMetrics, OpenConnection, RouteLabel, ThrottleLimit};
pub(crate) use ledger::{LedgerMetrics, OperationKind};
use process::ProcessCollector;
use prometheus_text::to_prometheus_text;

/// As senders name it in `Accept`.
pub(crate) const OPEN_METRICS_NAME: &str = "application/openmetrics-text";

/// A format of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricFormat {
    OpenMetrics,
    /// The older one, which every scraper and promtool can read.
    PrometheusText,
}

impl MetricFormat {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::PrometheusText => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Upper ends of the histograms of requests.
const DURATION_SECONDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];
/// Upper ends of the histograms of batches.
const BATCH_RECORDS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];
const BODY_BYTES: [f64; 8] =
    [1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0];

type StatusCounter = Family<[(&'static str, u16); 1], Counter>;
type LabelledCounter = Family<[(&'static str, &'static str); 1], Counter>;
type HistogramFamily = Family<[(&'static str, &'static str); 1], Histogram, fn() -> Histogram>;

#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    clock: Clock,
    batch_answers: StatusCounter,
    lookups: StatusCounter,
    batches: LabelledCounter,
    batch_records: Histogram,
    body_bytes: Histogram,
    records: LabelledCounter,
    processing: Gauge<i64, AtomicI64>,
    processing_seconds: Histogram,
    pub(crate) http: HttpMetrics,
    pub(crate) ledger: LedgerMetrics,
    pub(crate) forward: ForwardMetrics,
    pub(crate) fleet: FleetMetrics,
    pub(crate) configuration: ConfigurationMetrics,
    pub(crate) destination: DestinationMetrics,
}

/// How the processing of a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BatchOutcomeLabel {
    Settled,
    /// With the response of an earlier request.
    Replayed,
    IdReused,
    /// Another gateway processes it.
    ClaimedElsewhere,
    /// The destination takes no records now.
    Refused,
    Abandoned,
    /// The ledger failed.
    Failed,
}

impl BatchOutcomeLabel {
    const ALL: [Self; 7] = [
        Self::Settled,
        Self::Replayed,
        Self::IdReused,
        Self::ClaimedElsewhere,
        Self::Refused,
        Self::Abandoned,
        Self::Failed,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Replayed => "replayed",
            Self::IdReused => "id_reused",
            Self::ClaimedElsewhere => "claimed_elsewhere",
            Self::Refused => "refused",
            Self::Abandoned => "abandoned",
            Self::Failed => "failed",
        }
    }
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
    pub(crate) fn new(has_certificate: bool) -> Self {
        let mut root = Registry::default();
        root.register_collector(Box::new(ProcessCollector::new()));
        let registry = root.sub_registry_with_prefix("fieldsync_gateway");
        let build = Family::<[(&'static str, &'static str); 1], Gauge<i64, AtomicI64>>::default();
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
        let batch_answers = StatusCounter::default();
        let lookups = StatusCounter::default();
        let batches = LabelledCounter::default();
        let batch_records = Histogram::new(BATCH_RECORDS);
        let body_bytes = Histogram::new(BODY_BYTES);
        let records = LabelledCounter::default();
        let processing = Gauge::default();
        let processing_seconds = Histogram::new(DURATION_SECONDS);
        registry.register("build_info", "Always 1: the version of the gateway", build);
        registry.register("batch_answers", "Batch requests, by response status", batch_answers.clone());
        registry.register("lookups", "Outcome queries, by response status", lookups.clone());
        registry.register("batches", "Processed batches, by outcome", batches.clone());
        registry.register("batch_records", "Records of valid batches", batch_records.clone());
        registry.register_with_unit(
            "batch_body",
            "Size of the bodies of batches, as they were sent",
            Unit::Bytes,
            body_bytes.clone(),
        );
        registry.register("records", "Records of settled batches, by result", records.clone());
        registry.register("processing", "Batches in flight", processing.clone());
        registry.register_with_unit(
            "batch_processing_duration",
            "Time from a complete and valid batch to its outcome, without the upload",
            Unit::Seconds,
            processing_seconds.clone(),
        );
        let http = HttpMetrics::register(registry);
        let ledger = LedgerMetrics::register(registry);
        let forward = ForwardMetrics::register(registry);
        let fleet = FleetMetrics::register(registry);
        let configuration = ConfigurationMetrics::register(registry, has_certificate);
        let destination = DestinationMetrics::register(registry);
        let metrics = Self {
            registry: root,
            clock: Clock::start(),
            batch_answers,
            lookups,
            batches,
            batch_records,
            body_bytes,
            records,
            processing,
            processing_seconds,
            http,
            ledger,
            forward,
            fleet,
            configuration,
            destination,
        };
        // A series that exists from the start shows its first increment.
        metrics.count_records(ResultCounts::default());
        for outcome in BatchOutcomeLabel::ALL {
            drop(metrics.batches.get_or_create(&[("outcome", outcome.as_str())]));
        }
        metrics
    }

    /// The time since the start, to measure durations.
    pub(crate) fn now(&self) -> Duration {
        self.clock.now()
    }

    /// The time since [`Self::now`] was called.
    pub(crate) fn elapsed_since(&self, began: Duration) -> Duration {
        self.clock.now().saturating_sub(began)
    }

    pub(crate) fn count_batch(&self, outcome: BatchOutcomeLabel, duration: Duration) {
        self.batches.get_or_create(&[("outcome", outcome.as_str())]).inc();
        self.processing_seconds.observe(duration.as_secs_f64());
    }

    #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
    pub(crate) fn observe_batch(&self, body_bytes: usize, records: usize) {
        self.body_bytes.observe(body_bytes as f64);
        self.batch_records.observe(records as f64);
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

    /// All metrics as text.
    pub(crate) fn encode_text(&self, format: MetricFormat) -> Result<String, fmt::Error> {
        self.forward.refresh(wall_ms());
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        match format {
            MetricFormat::OpenMetrics => Ok(text),
            MetricFormat::PrometheusText => to_prometheus_text(&text),
        }
    }
}

fn count_status(family: &StatusCounter, status: StatusCode) {
    family.get_or_create(&[("status", status.as_u16())]).inc();
}
