//! When, how and over which network sending fails.

use super::{Figure, Section, head};
use crate::api::{FailureReport, TelemetryReport};
use crate::cli::format::size;
use crate::cli::telemetry::findings::{describe_failures, failures_by_interface};
use crate::cli::telemetry::report::html::DataTable;
use crate::cli::telemetry::report::plots::{Bar, Bars, HOURS, HeatMap};
use crate::cli::telemetry::words::{
    NO_VALUE, class_name, interface_title, number, optional_duration, percent_of, short_duration, to_f64,
};

/// Kinds of failures are few; a newer daemon may have more.
const CLASSES_MAX: usize = 16;
const INTERFACES_MAX: usize = 8;

pub(super) fn section(report: &TelemetryReport) -> Section<'_> {
    let failures = &report.failures[..report.failures.len().min(CLASSES_MAX)];
    let mut figures = Vec::new();
    let has_hours = failures.iter().any(|failure| failure.by_hour.iter().any(|count| *count > 0));
    if has_hours {
        figures.push(Figure {
            title: "By hour of the day".to_owned(),
            legend: Vec::new(),
            is_half: false,
            draw: Box::new(move |width| draw_hours(failures, width)),
        });
    }
    let interfaces = failures_by_interface(failures);
    if !interfaces.is_empty() {
        figures.push(Figure {
            title: "By network".to_owned(),
            legend: Vec::new(),
            is_half: false,
            draw: Box::new(move |width| draw_interfaces(&interfaces, width)),
        });
    }
    let mut tables = vec![conditions_table(failures)];
    if has_hours {
        tables.push(hours_table(failures));
    }
    Section {
        id: "failures",
        question: "When and where does sending fail?",
        explanation: "Each failed attempt, with the state of the network at that moment. The hours are in the time zone of the device.",
        finding: describe_failures(report),
        figures,
        tables,
    }
}

fn draw_hours(failures: &[FailureReport], width: super::Width) -> Result<String, super::PlotError> {
    let rows: Vec<(String, [u64; HOURS])> = failures
        .iter()
        .map(|failure| {
            let mut hours = [0; HOURS];
            hours.iter_mut().zip(&failure.by_hour).for_each(|(hour, count)| *hour = *count);
            (class_name(&failure.class), hours)
        })
        .collect();
    let worst = |(name, hours): &(String, [u64; HOURS])| {
        let (hour, count) = (0..).zip(hours).max_by_key(|(_, count)| **count).unwrap_or((0, &0));
        format!("{name}: most at {hour:02}:00 ({count})")
    };
    let texts = rows.iter().map(worst).collect::<Vec<_>>().join(", ");
    HeatMap {
        label: &format!("Failures by hour of the day. {texts}"),
        title: "Failed attempts in each hour",
        x_title: "Hour of the day (time of the device)",
        rows,
    }
    .draw(width)
}

fn draw_interfaces(interfaces: &[(String, u64)], width: super::Width) -> Result<String, super::PlotError> {
    let total: u64 = interfaces.iter().map(|(_, count)| count).sum();
    let shown =
        || interfaces.iter().take(INTERFACES_MAX).map(|(name, count)| (interface_title(name), *count));
    let bars = shown().map(|(name, count)| Bar {
        name,
        length: to_f64(count),
        number: format!("{} · {}", number(count), percent_of(count, total)),
    });
    let texts = shown().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ");
    let label = format!("Failed attempts by network: {texts}");
    Bars { label: &label, x_title: "Failed attempts · share (%)", rows: bars.collect() }.draw(width)
}

fn conditions_table(failures: &[FailureReport]) -> DataTable {
    let names = [
        "Failure",
        "Count",
        "Networks",
        "Connect",
        "Round trip",
        "Upload",
        "Signal",
        "Metered",
        "Link up for",
    ];
    let row = |failure: &FailureReport| {
        let networks = failure.interfaces.iter().take(INTERFACES_MAX);
        let networks: Vec<String> =
            networks.map(|one| format!("{} {}", interface_title(&one.interface), one.count)).collect();
        vec![
            class_name(&failure.class),
            number(failure.count),
            if networks.is_empty() { NO_VALUE.to_owned() } else { networks.join(", ") },
            optional_duration(failure.connect_ms),
            optional_duration(failure.round_trip_ms),
            failure.bytes_per_s.map_or_else(|| NO_VALUE.to_owned(), bytes_per_second),
            failure.signal_dbm.map_or_else(|| NO_VALUE.to_owned(), |dbm| format!("{dbm:.0} dBm")),
            percent_of(failure.metered, failure.count),
            failure.link_age_s.map_or_else(|| NO_VALUE.to_owned(), |s| short_duration(s * 1000.0)),
        ]
    };
    DataTable {
        caption: "Networks during failures",
        head: head(&names),
        rows: failures.iter().map(row).collect(),
    }
}

/// A row for each hour, because there are more hours than kinds of failures.
fn hours_table(failures: &[FailureReport]) -> DataTable {
    let classes = failures.iter().map(|failure| class_name(&failure.class));
    let row = |hour: usize| {
        let counts =
            failures.iter().map(|failure| number(failure.by_hour.get(hour).copied().unwrap_or_default()));
        [format!("{hour:02}:00")].into_iter().chain(counts).collect()
    };
    DataTable {
        caption: "Failed attempts by hour of the day",
        head: ["Hour".to_owned()].into_iter().chain(classes).collect(),
        rows: (0..HOURS).map(row).collect(),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is positive, and saturates"
)]
fn bytes_per_second(bytes_per_s: f64) -> String {
    format!("{}/s", size(bytes_per_s as u64))
}
