//! Families as an `ExportMetricsServiceRequest`, cumulative since the start of the daemon.

use serde::Serialize;

use super::{KeyValue, Resource, ResourceMessage, Scope, resource_message, scope, unix_nanoseconds};
use crate::telemetry::metrics::family::{MetricFamily, MetricKind, Point, PointValue, Unit};
use crate::telemetry::metrics::histogram::Histogram;

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`
const CUMULATIVE: u8 = 2;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExportRequest {
    resource_metrics: [ResourceMetrics; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceMetrics {
    resource: ResourceMessage,
    scope_metrics: [ScopeMetrics; 1],
}

#[derive(Serialize)]
struct ScopeMetrics {
    scope: Scope,
    metrics: Vec<Metric>,
}

#[derive(Serialize)]
struct Metric {
    name: String,
    description: &'static str,
    unit: &'static str,
    #[serde(flatten)]
    data: MetricData,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum MetricData {
    Gauge(Gauge),
    Sum(Sum),
    Histogram(HistogramData),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Gauge {
    data_points: Vec<NumberPoint>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sum {
    data_points: Vec<NumberPoint>,
    aggregation_temporality: u8,
    is_monotonic: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HistogramData {
    data_points: Vec<HistogramPoint>,
    aggregation_temporality: u8,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NumberPoint {
    attributes: Vec<KeyValue>,
    start_time_unix_nano: String,
    time_unix_nano: String,
    #[serde(flatten)]
    value: NumberValue,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum NumberValue {
    AsInt(String),
    AsDouble(f64),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HistogramPoint {
    attributes: Vec<KeyValue>,
    start_time_unix_nano: String,
    time_unix_nano: String,
    count: String,
    sum: f64,
    bucket_counts: Vec<String>,
    explicit_bounds: &'static [f64],
}

/// The times that all points have in common.
struct Period {
    start: String,
    end: String,
}

/// Encodes the families. Times are in wall milliseconds.
pub fn encode_metrics(
    families: &[MetricFamily],
    resource: &Resource,
    started_at: u64,
    now: u64,
) -> serde_json::Result<Vec<u8>> {
    let period = Period { start: unix_nanoseconds(started_at), end: unix_nanoseconds(now) };
    let metrics = families.iter().map(|family| metric(family, &period)).collect();
    serde_json::to_vec(&ExportRequest {
        resource_metrics: [ResourceMetrics {
            resource: resource_message(resource),
            scope_metrics: [ScopeMetrics { scope: scope(), metrics }],
        }],
    })
}

fn metric(family: &MetricFamily, period: &Period) -> Metric {
    let numbers = || family.points.iter().filter_map(|point| number_point(point, period)).collect();
    let data = match family.kind {
        MetricKind::Gauge | MetricKind::Info => MetricData::Gauge(Gauge { data_points: numbers() }),
        MetricKind::Counter => MetricData::Sum(Sum {
            data_points: numbers(),
            aggregation_temporality: CUMULATIVE,
            is_monotonic: true,
        }),
        MetricKind::Histogram => MetricData::Histogram(HistogramData {
            data_points: family.points.iter().filter_map(|point| histogram_point(point, period)).collect(),
            aggregation_temporality: CUMULATIVE,
        }),
    };
    // Collectors append "_total" to counters themselves. They know no kind for information.
    let suffix = if family.kind == MetricKind::Info { "_info" } else { "" };
    let unit = family.unit.map_or("", Unit::ucum_code);
    Metric { name: format!("{}{suffix}", family.name), description: family.help, unit, data }
}

fn number_point(point: &Point, period: &Period) -> Option<NumberPoint> {
    let value = match point.value {
        PointValue::Integer(count) => NumberValue::AsInt(count.to_string()),
        PointValue::Float(value) => NumberValue::AsDouble(value),
        PointValue::Histogram(_) => return None,
    };
    Some(NumberPoint {
        attributes: attributes(point),
        start_time_unix_nano: period.start.clone(),
        time_unix_nano: period.end.clone(),
        value,
    })
}

fn histogram_point(point: &Point, period: &Period) -> Option<HistogramPoint> {
    let PointValue::Histogram(histogram) = &point.value else { return None };
    Some(HistogramPoint {
        attributes: attributes(point),
        start_time_unix_nano: period.start.clone(),
        time_unix_nano: period.end.clone(),
        count: histogram.count().to_string(),
        sum: histogram.sum(),
        bucket_counts: histogram.counts().iter().map(u64::to_string).collect(),
        explicit_bounds: Histogram::bounds(histogram),
    })
}

fn attributes(point: &Point) -> Vec<KeyValue> {
    point.labels.iter().map(|(name, value)| KeyValue::text(name, value.clone())).collect()
}
