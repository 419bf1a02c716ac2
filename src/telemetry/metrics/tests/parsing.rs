//! Reads each format back into samples: by name and sorted labels, with their values.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::telemetry::metrics::family::{MetricFamily, MetricKind};

pub(super) type Samples = BTreeMap<String, f64>;

/// The samples of a text, whose last line must be `end`, if there is one.
pub(super) fn read_text(text: &str, end: &str) -> Samples {
    assert!(text.ends_with('\n') && (end.is_empty() || text.trim_end().ends_with(end)), "{text}");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (canonical_name(name), value.parse().unwrap())
        })
        .collect()
}

/// `name{b="2",a="1"}` as `name{a=1,b=2}`.
fn canonical_name(text: &str) -> String {
    let Some((name, labels)) = text.split_once('{') else { return text.to_owned() };
    let mut rest = labels.strip_suffix('}').unwrap();
    let mut read = Vec::new();
    while let Some((label, value)) = rest.split_once("=\"") {
        let mut text = String::new();
        let mut letters = value.char_indices();
        let end = loop {
            match letters.next().unwrap() {
                (end, '"') => break end,
                (_, '\\') => match letters.next().unwrap().1 {
                    'n' => text.push('\n'),
                    escaped => text.push(escaped),
                },
                (_, letter) => text.push(letter),
            }
        };
        read.push((label.to_owned(), text));
        rest = value[end + 1..].trim_start_matches(',');
    }
    sample_name(name, read)
}

fn sample_name(name: &str, mut labels: Vec<(String, String)>) -> String {
    for (label, value) in &mut labels {
        if label == "le" && value != "+Inf" {
            *value = value.parse::<f64>().unwrap().to_string();
        }
    }
    labels.sort();
    let shown: Vec<String> = labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
    if shown.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", shown.join(",")) }
}

/// The samples that a collector would expose to Prometheus.
pub(super) fn read_otlp(request: &Value, families: &[MetricFamily]) -> Samples {
    let metrics = request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap();
    assert_eq!(metrics.len(), families.len());
    let mut samples = Samples::new();
    for (metric, family) in metrics.iter().zip(families) {
        let name = metric["name"].as_str().unwrap();
        match family.kind {
            MetricKind::Counter => {
                assert_eq!(
                    (&metric["sum"]["aggregationTemporality"], &metric["sum"]["isMonotonic"]),
                    (&2.into(), &true.into())
                );
                add_numbers(&mut samples, &format!("{name}_total"), &metric["sum"]);
            }
            MetricKind::Gauge | MetricKind::Info => add_numbers(&mut samples, name, &metric["gauge"]),
            MetricKind::Histogram => add_histograms(&mut samples, name, &metric["histogram"]),
        }
    }
    samples
}

fn labels_of(point: &Value) -> Vec<(String, String)> {
    let attributes = point["attributes"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    attributes.iter().map(|pair| (text(&pair["key"]), text(&pair["value"]["stringValue"]))).collect()
}

fn number(text: &Value) -> f64 {
    text.as_str().unwrap().parse().unwrap()
}

fn add_numbers(samples: &mut Samples, name: &str, data: &Value) {
    for point in data["dataPoints"].as_array().unwrap() {
        let value = point["asDouble"].as_f64().unwrap_or_else(|| number(&point["asInt"]));
        samples.insert(sample_name(name, labels_of(point)), value);
    }
}

fn add_histograms(samples: &mut Samples, name: &str, data: &Value) {
    for point in data["dataPoints"].as_array().unwrap() {
        let bounds = point["explicitBounds"]
            .as_array()
            .unwrap()
            .iter()
            .map(|bound| bound.as_f64().unwrap().to_string());
        let mut total = 0.0;
        for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(point["bucketCounts"].as_array().unwrap())
        {
            total += number(count);
            let mut labels = labels_of(point);
            labels.push(("le".to_owned(), bound));
            samples.insert(sample_name(&format!("{name}_bucket"), labels), total);
        }
        assert!((number(&point["count"]) - total).abs() < 0.5);
        samples.insert(sample_name(&format!("{name}_count"), labels_of(point)), total);
        samples.insert(sample_name(&format!("{name}_sum"), labels_of(point)), point["sum"].as_f64().unwrap());
    }
}
