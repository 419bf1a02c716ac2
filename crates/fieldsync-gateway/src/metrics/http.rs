//! Requests and connections. Routes are names from a fixed list, because senders choose paths.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use actix_web::http::StatusCode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::{DURATION_SECONDS, HistogramFamily, LabelledCounter};

/// Responses to batches are success, a mistake of the sender, or a failure.
const STATUS_CLASSES_OF_BATCHES: [&str; 3] = ["2xx", "4xx", "5xx"];

/// The call that a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RouteLabel {
    Batch,
    Outcome,
    DeviceStatus,
    Health,
    Ready,
    Metrics,
    Ledger,
    Admin,
    /// A path that does not exist.
    Other,
}

impl RouteLabel {
    fn as_str(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Outcome => "outcome",
            Self::DeviceStatus => "device_status",
            Self::Health => "healthz",
            Self::Ready => "readyz",
            Self::Metrics => "metrics",
            Self::Ledger => "ledger",
            Self::Admin => "admin",
            Self::Other => "other",
        }
    }
}

/// Why a sender was refused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AuthFailure {
    /// No token, or one that is not in the file.
    Token,
    /// A token of another device, or of one device where one for all is needed.
    Device,
    /// No token of an operator.
    Operator,
}

impl AuthFailure {
    const ALL: [Self; 3] = [Self::Token, Self::Device, Self::Operator];

    fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Device => "device",
            Self::Operator => "operator",
        }
    }
}

/// The limit that a batch exceeded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ThrottleLimit {
    /// `max_in_flight_per_device`
    Device,
    /// Batches of all devices.
    Gateway,
    /// The destination takes no records now.
    Destination,
    /// The gateway is ending.
    Draining,
}

impl ThrottleLimit {
    const ALL: [Self; 4] = [Self::Device, Self::Gateway, Self::Destination, Self::Draining];

    fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Gateway => "gateway",
            Self::Destination => "destination",
            Self::Draining => "draining",
        }
    }
}

#[derive(Debug)]
pub(crate) struct HttpMetrics {
    requests: Family<[(&'static str, &'static str); 2], Counter>,
    durations: HistogramFamily,
    in_flight: Gauge<i64, AtomicI64>,
    connections_opened: Counter,
    connections_open: Gauge<i64, AtomicI64>,
    tls_failures: Counter,
    auth_failures: LabelledCounter,
    throttled: LabelledCounter,
}

impl HttpMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            durations: HistogramFamily::new_with_constructor(|| Histogram::new(DURATION_SECONDS)),
            in_flight: Gauge::default(),
            connections_opened: Counter::default(),
            connections_open: Gauge::default(),
            tls_failures: Counter::default(),
            auth_failures: Family::default(),
            throttled: Family::default(),
        };
        registry.register(
            "http_requests",
            "Requests that got a response, by call and class of the status",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "http_request_duration",
            "Time from the head of a request to the head of its response, by call",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register(
            "http_requests_in_flight",
            "Requests without a response yet",
            metrics.in_flight.clone(),
        );
        registry.register(
            "connections_opened",
            "Connections that were opened, with TLS after the handshake",
            metrics.connections_opened.clone(),
        );
        registry.register("connections_open", "Open connections", metrics.connections_open.clone());
        registry.register(
            "tls_handshake_failures",
            "TLS handshakes that failed, without connections that the client closed during the handshake without a reason",
            metrics.tls_failures.clone(),
        );
        registry.register(
            "auth_failures",
            "Requests whose sender was refused, by reason",
            metrics.auth_failures.clone(),
        );
        registry.register(
            "batches_throttled",
            "Batches that were refused because of a limit, by limit",
            metrics.throttled.clone(),
        );
        // Series that exist from the start show their first increment.
        for failure in AuthFailure::ALL {
            drop(metrics.auth_failures.get_or_create(&[("reason", failure.as_str())]));
        }
        for limit in ThrottleLimit::ALL {
            drop(metrics.throttled.get_or_create(&[("limit", limit.as_str())]));
        }
        for status_class in STATUS_CLASSES_OF_BATCHES {
            let labels = [("route", RouteLabel::Batch.as_str()), ("status_class", status_class)];
            drop(metrics.requests.get_or_create(&labels));
        }
        metrics
    }

    /// A request is in flight until the result is dropped.
    pub(crate) fn start_request(&self) -> RequestInFlight<'_> {
        self.in_flight.inc();
        RequestInFlight(self)
    }

    pub(crate) fn count_response(&self, route: RouteLabel, status: StatusCode, duration: Duration) {
        let labels = [("route", route.as_str()), ("status_class", status_class(status))];
        self.requests.get_or_create(&labels).inc();
        self.durations.get_or_create(&[("route", route.as_str())]).observe(duration.as_secs_f64());
    }

    pub(crate) fn count_tls_failure(&self) {
        self.tls_failures.inc();
    }

    pub(crate) fn count_auth_failure(&self, failure: AuthFailure) {
        self.auth_failures.get_or_create(&[("reason", failure.as_str())]).inc();
    }

    pub(crate) fn count_throttled(&self, limit: ThrottleLimit) {
        self.throttled.get_or_create(&[("limit", limit.as_str())]).inc();
    }
}

fn status_class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

/// A request without a response yet. The client may hang up.
pub(crate) struct RequestInFlight<'a>(&'a HttpMetrics);

impl Drop for RequestInFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

/// An open connection; closed when it is dropped.
pub(crate) struct OpenConnection(Arc<super::Metrics>);

impl OpenConnection {
    pub(crate) fn new(metrics: Arc<super::Metrics>) -> Self {
        metrics.http.connections_opened.inc();
        metrics.http.connections_open.inc();
        Self(metrics)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.http.connections_open.dec();
    }
}
