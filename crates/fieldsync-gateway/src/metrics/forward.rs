//! What the metrics say of forwarding.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::{DURATION_SECONDS, LabelledCounter};

type Number = Gauge<i64, AtomicI64>;

#[derive(Debug)]
pub(crate) struct ForwardMetrics {
    forwarded: Counter,
    requests: LabelledCounter,
    request_seconds: Histogram,
    waiting: Number,
    oldest_waiting_seconds: Number,
    /// Wall milliseconds; 0 if no record waits.
    oldest_waiting_since: AtomicU64,
    refused: Number,
    parked_records: Number,
    parked_keys: Number,
    stopped: Number,
}

/// How a request to the receiver ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ForwardOutcomeLabel {
    Accepted,
    /// The records, or some of them.
    Rejected,
    /// The URL or the token is wrong.
    EndpointUnavailable,
    /// 410
    Gone,
    RetryLater,
    /// Without a response.
    Failed,
}

impl ForwardOutcomeLabel {
    const ALL: [Self; 6] = [
        Self::Accepted,
        Self::Rejected,
        Self::EndpointUnavailable,
        Self::Gone,
        Self::RetryLater,
        Self::Failed,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::EndpointUnavailable => "endpoint_unavailable",
            Self::Gone => "gone",
            Self::RetryLater => "retry_later",
            Self::Failed => "failed",
        }
    }
}

impl ForwardMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            forwarded: Counter::default(),
            requests: LabelledCounter::default(),
            request_seconds: Histogram::new(DURATION_SECONDS),
            waiting: Number::default(),
            oldest_waiting_seconds: Number::default(),
            oldest_waiting_since: AtomicU64::new(0),
            refused: Number::default(),
            parked_records: Number::default(),
            parked_keys: Number::default(),
            stopped: Number::default(),
        };
        registry.register("forwarded", "Records that this gateway forwarded", metrics.forwarded.clone());
        registry.register(
            "forward_requests",
            "Requests to the receiver of forwarded records, by outcome",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "forward_request_duration",
            "Time until the receiver of forwarded records responded, or did not",
            Unit::Seconds,
            metrics.request_seconds.clone(),
        );
        registry.register_with_unit(
            "forward_oldest_waiting",
            "Age of the oldest applied record that was not forwarded yet, without those behind refused ones; 0 if none waits",
            Unit::Seconds,
            metrics.oldest_waiting_seconds.clone(),
        );
        for (name, help, gauge) in [
            (
                "forward_waiting",
                "Applied records not yet forwarded, as last seen by the gateway that forwards",
                &metrics.waiting,
            ),
            ("forward_refused", "Refused records that need review", &metrics.refused),
            (
                "forward_parked_records",
                "Records that wait behind another one of their key",
                &metrics.parked_records,
            ),
            (
                "forward_parked_keys",
                "Keys, and records without a key, whose first record was refused or is sent later",
                &metrics.parked_keys,
            ),
            ("forward_stopped", "Whether the receiver wants no more requests (410)", &metrics.stopped),
        ] {
            registry.register(name, help, gauge.clone());
        }
        for outcome in ForwardOutcomeLabel::ALL {
            drop(metrics.requests.get_or_create(&[("outcome", outcome.as_str())]));
        }
        metrics
    }

    pub(crate) fn count_forwarded(&self, records: u64) {
        self.forwarded.inc_by(records);
    }

    pub(crate) fn count_request(&self, outcome: ForwardOutcomeLabel, duration: Duration) {
        self.requests.get_or_create(&[("outcome", outcome.as_str())]).inc();
        self.request_seconds.observe(duration.as_secs_f64());
    }

    pub(crate) fn set_waiting(&self, records: u64) {
        self.waiting.set(number(records));
        if records == 0 {
            self.set_oldest_waiting(None);
        }
    }

    /// When the oldest waiting record was applied, in wall milliseconds.
    pub(crate) fn set_oldest_waiting(&self, since: Option<u64>) {
        self.oldest_waiting_since.store(since.unwrap_or(0), Ordering::Relaxed);
    }

    /// Counts of what waits in the lanes of forwarding.
    pub(crate) fn set_lanes(&self, refused: u64, parked_records: u64, parked_keys: u64) {
        self.refused.set(number(refused));
        self.parked_records.set(number(parked_records));
        self.parked_keys.set(number(parked_keys));
    }

    pub(crate) fn set_stopped(&self, is_stopped: bool) {
        self.stopped.set(i64::from(is_stopped));
    }

    pub(super) fn refresh(&self, now_ms: u64) {
        let age_ms = match self.oldest_waiting_since.load(Ordering::Relaxed) {
            0 => 0,
            since => now_ms.saturating_sub(since),
        };
        self.oldest_waiting_seconds.set(number(age_ms / 1000));
    }
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
