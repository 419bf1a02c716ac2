//! Families in the text format of Prometheus (version 0.0.4), for scrapers and tools without OpenMetrics.

use std::fmt::{self, Write};

use super::family::{MetricFamily, MetricKind, Point, PointValue};
use super::histogram::Histogram;

/// The media type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes the families.
pub fn encode_prometheus_text(families: &[MetricFamily]) -> Result<String, fmt::Error> {
    let mut text = String::new();
    for family in families {
        let (suffix, kind) = match family.kind {
            MetricKind::Counter => ("_total", "counter"),
            MetricKind::Gauge => ("", "gauge"),
            MetricKind::Histogram => ("", "histogram"),
            MetricKind::Info => ("_info", "gauge"),
        };
        let name = format!("{}{suffix}", family.name);
        writeln!(text, "# HELP {name} {}", escape(family.help, false))?;
        writeln!(text, "# TYPE {name} {kind}")?;
        for point in &family.points {
            write_point(&mut text, &name, point)?;
        }
    }
    Ok(text)
}

fn write_point(text: &mut String, name: &str, point: &Point) -> fmt::Result {
    match &point.value {
        PointValue::Integer(count) => writeln!(text, "{name}{} {count}", show_labels(&point.labels, None)),
        PointValue::Float(value) => writeln!(text, "{name}{} {value}", show_labels(&point.labels, None)),
        PointValue::Histogram(histogram) => write_histogram(text, name, point, histogram),
    }
}

fn write_histogram(text: &mut String, name: &str, point: &Point, histogram: &Histogram) -> fmt::Result {
    let bounds = histogram.bounds().iter().map(f64::to_string).chain(["+Inf".to_owned()]);
    let mut total = 0;
    for (bound, count) in bounds.zip(histogram.counts()) {
        total += count;
        writeln!(text, "{name}_bucket{} {total}", show_labels(&point.labels, Some(&bound)))?;
    }
    let labels = show_labels(&point.labels, None);
    writeln!(text, "{name}_sum{labels} {}", histogram.sum())?;
    writeln!(text, "{name}_count{labels} {total}")
}

fn show_labels(labels: &[(&'static str, String)], bound: Option<&str>) -> String {
    let own = labels.iter().map(|(name, value)| (*name, value.as_str()));
    let shown: Vec<String> = own
        .chain(bound.map(|bound| ("le", bound)))
        .map(|(name, value)| format!("{name}=\"{}\"", escape(value, true)))
        .collect();
    if shown.is_empty() { String::new() } else { format!("{{{}}}", shown.join(",")) }
}

fn escape(text: &str, is_quoted: bool) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\n', "\\n");
    if is_quoted { escaped.replace('"', "\\\"") } else { escaped }
}
