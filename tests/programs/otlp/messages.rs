//! The messages of OTLP as JSON, read strictly: an unknown field or a wrong type is an error. Only what this program
//! sends is here. The official definitions check the same in `official_receiver.rs`.

use serde::{Deserialize, Deserializer, de};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MetricsRequest {
    pub(super) resource_metrics: [ResourceMetrics; 1],
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ResourceMetrics {
    pub(super) resource: Resource,
    pub(super) scope_metrics: [ScopeMetrics; 1],
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScopeMetrics {
    #[expect(dead_code, reason = "it is only read")]
    scope: Scope,
    pub(super) metrics: Vec<Metric>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scope {
    #[expect(dead_code, reason = "it is only read")]
    name: String,
    #[expect(dead_code, reason = "it is only read")]
    version: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Resource {
    pub(super) attributes: Vec<KeyValue>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyValue {
    pub(super) key: String,
    pub(super) value: AnyValue,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(super) enum AnyValue {
    StringValue(String),
    BoolValue(bool),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metric {
    pub(super) name: String,
    pub(super) description: String,
    #[expect(dead_code, reason = "it is only read")]
    unit: String,
    pub(super) gauge: Option<Gauge>,
    pub(super) sum: Option<Sum>,
    pub(super) histogram: Option<Histogram>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Gauge {
    pub(super) data_points: Vec<NumberPoint>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Sum {
    pub(super) data_points: Vec<NumberPoint>,
    pub(super) aggregation_temporality: u8,
    pub(super) is_monotonic: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Histogram {
    pub(super) data_points: Vec<HistogramPoint>,
    pub(super) aggregation_temporality: u8,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NumberPoint {
    pub(super) attributes: Vec<KeyValue>,
    #[serde(deserialize_with = "fixed64")]
    pub(super) start_time_unix_nano: u64,
    #[serde(deserialize_with = "fixed64")]
    pub(super) time_unix_nano: u64,
    #[serde(default, deserialize_with = "optional_fixed64")]
    pub(super) as_int: Option<u64>,
    pub(super) as_double: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct HistogramPoint {
    #[expect(dead_code, reason = "it is only read")]
    attributes: Vec<KeyValue>,
    #[serde(deserialize_with = "fixed64")]
    #[expect(dead_code, reason = "it is only read")]
    start_time_unix_nano: u64,
    #[serde(deserialize_with = "fixed64")]
    #[expect(dead_code, reason = "it is only read")]
    time_unix_nano: u64,
    #[serde(deserialize_with = "fixed64")]
    pub(super) count: u64,
    #[expect(dead_code, reason = "it is only read")]
    sum: f64,
    pub(super) bucket_counts: Vec<String>,
    pub(super) explicit_bounds: Vec<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LogsRequest {
    pub(super) resource_logs: [ResourceLogs; 1],
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ResourceLogs {
    pub(super) resource: Resource,
    pub(super) scope_logs: [ScopeLogs; 1],
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ScopeLogs {
    #[expect(dead_code, reason = "it is only read")]
    scope: Scope,
    pub(super) log_records: Vec<LogRecord>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LogRecord {
    #[serde(deserialize_with = "fixed64")]
    pub(super) time_unix_nano: u64,
    #[serde(deserialize_with = "fixed64")]
    #[expect(dead_code, reason = "it is only read")]
    observed_time_unix_nano: u64,
    pub(super) severity_number: u8,
    pub(super) severity_text: String,
    pub(super) event_name: String,
    pub(super) body: AnyValue,
    pub(super) attributes: Vec<KeyValue>,
}

impl MetricsRequest {
    pub(super) fn metrics(&self) -> &[Metric] {
        &self.resource_metrics[0].scope_metrics[0].metrics
    }

    pub(super) fn find(&self, name: &str) -> &Metric {
        let found = self.metrics().iter().find(|metric| metric.name == name);
        found.unwrap_or_else(|| panic!("{name} is missing"))
    }

    /// What no type can check.
    pub(super) fn check(&self) {
        for metric in self.metrics() {
            let Metric { name, description, gauge, sum, histogram, .. } = metric;
            assert!(!description.is_empty(), "{name}");
            let kinds = [gauge.is_some(), sum.is_some(), histogram.is_some()];
            assert_eq!(kinds.iter().filter(|has| **has).count(), 1, "{name} has one kind of data");
            let numbers = gauge.iter().flat_map(|gauge| &gauge.data_points);
            for point in numbers.chain(sum.iter().flat_map(|sum| &sum.data_points)) {
                assert!(point.as_int.is_some() != point.as_double.is_some(), "{name}: {point:?}");
                assert!(0 < point.start_time_unix_nano && point.start_time_unix_nano <= point.time_unix_nano);
            }
            let is_cumulative = |temporality: u8| temporality == 2;
            assert!(sum.iter().all(|sum| is_cumulative(sum.aggregation_temporality) && sum.is_monotonic));
            if let Some(histogram) = histogram {
                assert!(is_cumulative(histogram.aggregation_temporality), "{name}");
                for point in &histogram.data_points {
                    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1, "{name}");
                    let counts = point.bucket_counts.iter().map(|count| count.parse::<u64>().unwrap());
                    assert_eq!(counts.sum::<u64>(), point.count, "{name}");
                }
            }
        }
    }
}

/// 64-bit integers are texts.
fn fixed64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}

fn optional_fixed64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    fixed64(deserializer).map(Some)
}
