//! What the daemon expected of batches, beside what was measured.

use super::{Figure, Section, head};
use crate::api::{SizeBucket, TelemetryReport};
use crate::cli::telemetry::findings::describe_estimates;
use crate::cli::telemetry::report::html::DataTable;
use crate::cli::telemetry::report::plots::{Category, Columns, Ink, PlotError, TimeUnit, Width, round_ticks};
use crate::cli::telemetry::words::{NO_VALUE, number, optional_duration};
use crate::hidden::replace_hidden;

pub(super) fn section(report: &TelemetryReport) -> Section<'_> {
    let figure = Figure {
        title: "Mean duration of a batch that succeeded".to_owned(),
        legend: vec![(Ink::Expected, "expected"), (Ink::Measured, "measured")],
        is_half: false,
        draw: Box::new(move |width| draw_durations(&report.by_batch_size, width)),
    };
    Section {
        id: "estimates",
        question: "Does the daemon expect the right durations?",
        explanation: "The daemon learns how long batches take, and makes them as large as will fit the time limit. Where batches take longer than expected, they may be too large.",
        finding: describe_estimates(report),
        figures: vec![figure],
        tables: vec![table(&report.by_batch_size)],
    }
}

fn draw_durations(buckets: &[SizeBucket], width: Width) -> Result<String, PlotError> {
    let all = buckets.iter().flat_map(|bucket| [bucket.expected_ms, bucket.mean_ms]).flatten();
    let longest = all.fold(0.0, f64::max);
    let unit = TimeUnit::for_longest(longest);
    let categories = buckets.iter().map(|bucket| {
        let column = |ink, ms: Option<f64>| vec![(ink, ms.map_or(0.0, |ms| unit.convert(ms)))];
        Category {
            name: name_of(bucket),
            columns: vec![column(Ink::Expected, bucket.expected_ms), column(Ink::Measured, bucket.mean_ms)],
            note: String::new(),
        }
    });
    let texts = buckets.iter().filter(|bucket| bucket.mean_ms.is_some()).map(|bucket| {
        let (expected, measured) = (optional_duration(bucket.expected_ms), optional_duration(bucket.mean_ms));
        format!("{}: {expected} expected, {measured} measured", name_of(bucket))
    });
    let label = format!("Duration by records in a batch: {}", texts.collect::<Vec<_>>().join("; "));
    Columns {
        label,
        y_title: format!("{} per batch", unit.name()),
        x_title: "Records in a batch",
        categories: categories.collect(),
        y_ticks: round_ticks(unit.convert(longest)),
    }
    .draw(width)
}

fn table(buckets: &[SizeBucket]) -> DataTable {
    let row = |bucket: &SizeBucket| {
        let difference = bucket.expected_ms.zip(bucket.mean_ms).filter(|(expected, _)| *expected > 0.0);
        vec![
            name_of(bucket),
            optional_duration(bucket.expected_ms),
            optional_duration(bucket.mean_ms),
            difference.map_or_else(
                || NO_VALUE.to_owned(),
                |(expected, measured)| format!("{:+.0} %", 100.0 * (measured / expected - 1.0)),
            ),
            number(bucket.expected),
            number(bucket.outcomes.succeeded),
        ]
    };
    DataTable {
        caption: "Expected and measured durations",
        head: head(&[
            "Records in a batch",
            "Expected",
            "Measured",
            "Difference",
            "Batches with an expectation",
            "Batches that succeeded",
        ]),
        rows: buckets.iter().map(row).collect(),
    }
}

fn name_of(bucket: &SizeBucket) -> String {
    replace_hidden(&bucket.size).into_owned()
}
