//! Families as OpenMetrics text, written by prometheus-client.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit as RegistryUnit};

use super::family::{MetricFamily, MetricKind, Point, PointValue, Unit};
use super::histogram::Histogram;

/// The media type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Writes the families.
pub fn encode_openmetrics(families: Vec<MetricFamily>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(FamilyCollector(families)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct FamilyCollector(Vec<MetricFamily>);

impl Collector for FamilyCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for family in &self.0 {
            // The encoder adds the unit.
            let measured = family.unit.and_then(|unit| family.name.strip_suffix(unit.name()));
            let name = measured.map_or(family.name, |measured| measured.trim_end_matches('_'));
            let unit = family.unit.map(registry_unit);
            let kind = metric_type(family.kind);
            let mut metrics = encoder.encode_descriptor(name, family.help, unit.as_ref(), kind)?;
            for point in &family.points {
                encode_point(&mut metrics, family.kind, point)?;
            }
        }
        Ok(())
    }
}

fn registry_unit(unit: Unit) -> RegistryUnit {
    match unit {
        Unit::Seconds => RegistryUnit::Seconds,
        Unit::Bytes => RegistryUnit::Bytes,
        Unit::Ratio | Unit::Dbm => RegistryUnit::Other(unit.name().to_owned()),
    }
}

fn metric_type(kind: MetricKind) -> MetricType {
    match kind {
        MetricKind::Counter => MetricType::Counter,
        MetricKind::Gauge => MetricType::Gauge,
        MetricKind::Histogram => MetricType::Histogram,
        MetricKind::Info => MetricType::Info,
    }
}

fn encode_point(metrics: &mut MetricEncoder<'_>, kind: MetricKind, point: &Point) -> Result<(), fmt::Error> {
    let labels = &point.labels;
    if kind == MetricKind::Info {
        return metrics.encode_info(labels);
    }
    if labels.is_empty() {
        return encode_value(metrics, kind, &point.value);
    }
    encode_value(&mut metrics.encode_family(labels)?, kind, &point.value)
}

fn encode_value(
    metric: &mut MetricEncoder<'_>,
    kind: MetricKind,
    value: &PointValue,
) -> Result<(), fmt::Error> {
    match (kind, value) {
        (_, PointValue::Histogram(histogram)) => {
            let buckets = buckets_of(histogram);
            metric.encode_histogram::<NoLabelSet>(histogram.sum(), histogram.count(), &buckets, None)
        }
        (MetricKind::Counter, PointValue::Integer(count)) => {
            metric.encode_counter::<NoLabelSet, _, u64>(count, None)
        }
        (MetricKind::Counter, PointValue::Float(value)) => {
            metric.encode_counter::<NoLabelSet, _, f64>(value, None)
        }
        (_, PointValue::Integer(count)) => metric.encode_gauge(count),
        (_, PointValue::Float(value)) => metric.encode_gauge(value),
    }
}

/// Each class with its upper bound and its own count, as the encoder expects them.
fn buckets_of(histogram: &Histogram) -> Vec<(f64, u64)> {
    let bounds = histogram.bounds().iter().copied().chain([f64::INFINITY]);
    bounds.zip(histogram.counts().iter().copied()).collect()
}
