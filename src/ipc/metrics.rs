//! The metrics of the daemon, collected when somebody asks for them, in the format that the caller prefers.

use std::fmt;

use hyper::HeaderMap;
use hyper::header::{ACCEPT, HeaderValue};
use tokio::sync::watch;

use super::status::StatusSources;
use crate::clock::SteadyClock;
use crate::policy::alerts::facts::{ClockReading, CredentialExpiry, ServerContact};
use crate::telemetry::metrics::counters::Counters;
use crate::telemetry::metrics::families::collect_families;
use crate::telemetry::metrics::family::MetricFamily;
use crate::telemetry::metrics::histogram::Histogram;
use crate::telemetry::metrics::openmetrics::{self, encode_openmetrics};
use crate::telemetry::metrics::process::ProcessUsage;
use crate::telemetry::metrics::prometheus_text::{self, encode_prometheus_text};
use crate::telemetry::metrics::sources::{ExportCounts, MetricSources};
use crate::telemetry::metrics::start_time::StartTime;

/// What the actors count.
#[derive(Clone)]
pub struct MetricReceivers {
    /// From events.
    pub counters: watch::Receiver<Counters>,
    /// How long commits took.
    pub commits: watch::Receiver<Histogram>,
    /// What was pushed.
    pub exports: watch::Receiver<ExportCounts>,
    /// The last response of the server.
    pub contact: watch::Receiver<ServerContact>,
    /// When the credentials expire.
    pub expiry: watch::Receiver<CredentialExpiry>,
    /// Dates the last response.
    pub steady: SteadyClock,
    /// When the daemon started.
    pub started: StartTime,
}

impl MetricReceivers {
    /// The clock of the device minus that of the server at its last response.
    fn clock_offset_ms(&self) -> Option<i64> {
        let ClockReading { at, server } = self.contact.borrow().clock?;
        let now = self.steady.now();
        let device = now.wall.saturating_sub(now.steady.saturating_sub(at));
        Some(device.cast_signed().saturating_sub(server.cast_signed()))
    }
}

/// Collects the metrics.
#[derive(Clone)]
pub struct MetricCollector {
    sources: StatusSources,
    receivers: MetricReceivers,
}

impl MetricCollector {
    /// Reads the status from `sources`, and counts from `receivers`.
    pub fn new(sources: StatusSources, receivers: MetricReceivers) -> Self {
        Self { sources, receivers }
    }

    /// The clock of the device minus that of the server at its last response.
    pub fn clock_offset_ms(&self) -> Option<i64> {
        self.receivers.clock_offset_ms()
    }

    /// All families as they are now.
    pub fn collect(&self) -> Vec<MetricFamily> {
        let Self { sources, receivers } = self;
        let (per_record, start_up) = {
            let planner = sources.planner.borrow();
            (planner.per_record, planner.start_up)
        };
        let now = receivers.steady.now();
        collect_families(&MetricSources {
            status: &sources.current_status(),
            backlog: &sources.backlog.borrow().clone(),
            link: &sources.link.borrow().clone(),
            counters: &receivers.counters.borrow().clone(),
            commits: &receivers.commits.borrow().clone(),
            exports: &receivers.exports.borrow().clone(),
            expiry: *receivers.expiry.borrow(),
            clock_offset_ms: receivers.clock_offset_ms(),
            per_record,
            start_up,
            process: &ProcessUsage::read(),
            started_at: receivers.started.wall_ms(now),
            now: now.wall,
        })
    }
}

/// A format of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetricFormat {
    OpenMetrics,
    PrometheusText,
}

impl MetricFormat {
    /// As the exporters of Prometheus do: OpenMetrics for callers that name it, else the older format, which every
    /// scraper and `promtool` can read.
    pub(super) fn negotiate(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(ACCEPT).iter().filter_map(|value: &HeaderValue| value.to_str().ok());
        let ranges = accepted.flat_map(|value| value.split(','));
        let is_openmetrics = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            let is_named =
                parts.next().is_some_and(|name| name.eq_ignore_ascii_case("application/openmetrics-text"));
            is_named && !parts.any(is_weight_of_zero)
        };
        if ranges.into_iter().any(is_openmetrics) { Self::OpenMetrics } else { Self::PrometheusText }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => openmetrics::CONTENT_TYPE,
            Self::PrometheusText => prometheus_text::CONTENT_TYPE,
        }
    }

    pub(super) fn encode(self, families: Vec<MetricFamily>) -> Result<String, fmt::Error> {
        match self {
            Self::OpenMetrics => encode_openmetrics(families),
            Self::PrometheusText => encode_prometheus_text(&families),
        }
    }
}

fn is_weight_of_zero(parameter: &str) -> bool {
    let weight = parameter.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
    weight.and_then(|(_, weight)| weight.trim().parse::<f32>().ok()).is_some_and(|weight| weight <= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_callers_that_name_it() {
        for (accept, expected) in [
            (None, MetricFormat::PrometheusText),
            (Some("*/*"), MetricFormat::PrometheusText),
            (Some("text/plain"), MetricFormat::PrometheusText),
            (Some("application/openmetrics-text;q=0, text/plain"), MetricFormat::PrometheusText),
            (Some("application/openmetrics-text; version=1.0.0"), MetricFormat::OpenMetrics),
            (
                Some(
                    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;\
                     version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                ),
                MetricFormat::OpenMetrics,
            ),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(MetricFormat::negotiate(&headers), expected, "{accept:?}");
        }
    }
}
