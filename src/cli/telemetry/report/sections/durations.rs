//! How long records take, by day and by hour.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::{Figure, Section, head};
use crate::api::{PerRecord, PeriodReport, TelemetryReport};
use crate::cli::telemetry::findings::describe_durations;
use crate::cli::telemetry::report::html::{DataTable, number};
use crate::cli::telemetry::report::plots::{Ink, Lines, Width};
use crate::cli::telemetry::words::{NO_VALUE, measured_duration, percent_of, short_duration, to_f64};

const HOUR_MS: u64 = 3_600_000;
/// The plot and the table show at most so many hours.
const HOURS_MAX: u64 = 9 * 24;
/// The plot and the table show at most so many days.
const DAYS_MAX: usize = 92;
/// With fewer labels, dates do not overlap.
const LABELS_WIDE: usize = 8;
const LABELS_NARROW: usize = 4;
const LEGEND: [(Ink, &str); 3] =
    [(Ink::Slowest, "95 of 100 took less"), (Ink::Mean, "mean"), (Ink::Median, "median")];

pub(super) fn section(report: &TelemetryReport) -> Section<'_> {
    let (days, hours) = (days_of(report), hours_of(report));
    let mut figures = Vec::new();
    // One day is no line.
    if days.len() > 1 {
        figures.push(figure("By day (UTC)", "Day (UTC)", days.clone()));
    }
    figures.push(figure("By hour (UTC)", "Hour (UTC), labelled at midnight", hours.clone()));
    Section {
        id: "durations",
        question: "How long does a record take?",
        explanation: "The time from the start of a request to its response, divided by the records in it.",
        finding: describe_durations(report),
        figures,
        tables: vec![
            table("Durations by day", "Day (UTC)", &days),
            table("Durations by hour", "Hour (UTC)", &hours),
        ],
    }
}

/// A period with its name in the table and its label in the plot, the oldest first.
#[derive(Clone)]
struct Period<'a> {
    name: String,
    label: Option<String>,
    data: Option<&'a PeriodReport>,
}

/// Days without data, too.
fn days_of(report: &TelemetryReport) -> Vec<Period<'_>> {
    let measured: Vec<(Date, &PeriodReport)> = report
        .days
        .iter()
        .filter_map(|day| Some((day.day.parse().ok()?, &day.period)))
        .take(DAYS_MAX)
        .collect();
    let (Some((last, _)), Some((first, _))) = (measured.first(), measured.last()) else {
        return Vec::new();
    };
    let days = std::iter::successors(Some(*first), |day| day.tomorrow().ok()).take(DAYS_MAX);
    days.take_while(|day| day <= last)
        .map(|day| Period {
            name: day.strftime("%a %-d %b %Y").to_string(),
            label: Some(day.strftime("%-d %b").to_string()),
            data: measured.iter().find(|(one, _)| *one == day).map(|(_, data)| *data),
        })
        .collect()
}

/// Hours without data, too.
fn hours_of(report: &TelemetryReport) -> Vec<Period<'_>> {
    let newest = report.hours.iter().map(|hour| hour.hour).max().unwrap_or_default();
    let measured = || report.hours.iter().filter(|hour| newest - hour.hour < HOURS_MAX * HOUR_MS);
    let Some(oldest) = measured().map(|hour| hour.hour).min() else {
        return Vec::new();
    };
    let hours = (0..=(newest - oldest) / HOUR_MS).map(|n| oldest + n * HOUR_MS);
    hours
        .map(|at| {
            let time =
                Timestamp::from_millisecond(i64::try_from(at).unwrap_or(i64::MAX)).unwrap_or(Timestamp::MAX);
            let time = time.to_zoned(TimeZone::UTC);
            Period {
                name: time.strftime("%a %-d %b %H:00").to_string(),
                label: (time.hour() == 0).then(|| time.strftime("%-d %b").to_string()),
                data: measured().find(|hour| hour.hour == at).map(|hour| &hour.period),
            }
        })
        .collect()
}

fn figure<'a>(title: &str, x_title: &'static str, periods: Vec<Period<'a>>) -> Figure<'a> {
    let label = format!("{title}: {}", summary(&periods));
    let draw = move |width| {
        let labels_max = if width == Width::Wide { LABELS_WIDE } else { LABELS_NARROW };
        Lines {
            label: &label,
            y_title: "per record",
            x_title,
            x_labels: thin_out(&periods, labels_max),
            series: vec![
                (Ink::Slowest, values(&periods, |each| to_f64(each.p95_ms))),
                (Ink::Mean, values(&periods, |each| each.mean_ms)),
                (Ink::Median, values(&periods, |each| to_f64(each.p50_ms))),
            ],
        }
        .draw(width)
    };
    Figure { title: title.to_owned(), legend: LEGEND.to_vec(), is_half: false, draw: Box::new(draw) }
}

fn values(periods: &[Period<'_>], number: fn(&PerRecord) -> f64) -> Vec<Option<f64>> {
    let measured =
        |period: &Period<'_>| period.data.map(|data| data.per_record).filter(|each| each.records > 0);
    periods.iter().map(|period| measured(period).as_ref().map(number)).collect()
}

/// As many labels as there is space for, the last one included.
fn thin_out(periods: &[Period<'_>], labels_max: usize) -> Vec<(usize, String)> {
    let labels: Vec<(usize, String)> =
        periods.iter().enumerate().filter_map(|(n, period)| Some((n, period.label.clone()?))).collect();
    let step = labels.len().div_ceil(labels_max).max(1);
    let skipped = labels.len().saturating_sub(1) % step;
    labels.into_iter().skip(skipped).step_by(step).collect()
}

/// What is read instead of the plot.
fn summary(periods: &[Period<'_>]) -> String {
    let measured = || {
        periods
            .iter()
            .filter_map(|one| Some((one, one.data?.per_record)))
            .filter(|(_, each)| each.records > 0)
    };
    let mut text = format!("{} periods with data", measured().count());
    if let Some((slowest, each)) = measured().max_by_key(|(_, each)| each.p95_ms) {
        let most = short_duration(to_f64(each.p95_ms));
        write!(text, "; the slowest is {}, in which 95 of 100 records took {most} or less", slowest.name)
            .ok();
    }
    text
}

/// The newest first, without periods in which nothing was sent.
fn table(caption: &'static str, period: &str, periods: &[Period<'_>]) -> DataTable {
    let names = [
        period,
        "Records",
        "Mean",
        "Median",
        "95 of 100",
        "Batches",
        "Success",
        "No response",
        "Need review",
    ];
    let rows = periods.iter().rev().filter_map(|one| Some((one, one.data?)));
    DataTable { caption, head: head(&names), rows: rows.map(|(one, data)| row(&one.name, data)).collect() }
}

fn row(name: &str, data: &PeriodReport) -> Vec<String> {
    let (each, outcomes) = (&data.per_record, &data.outcomes);
    vec![
        name.to_owned(),
        number(each.records),
        if each.records == 0 { NO_VALUE.to_owned() } else { short_duration(each.mean_ms) },
        measured_duration(each.p50_ms, each.records),
        measured_duration(each.p95_ms, each.records),
        number(outcomes.batches),
        percent_of(outcomes.succeeded, outcomes.batches),
        number(outcomes.timeouts),
        number(data.quarantined),
    ]
}
