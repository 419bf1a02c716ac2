//! How long records take, by day and by hour.

use std::fmt::Write as _;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::{Figure, Section, head};
use crate::api::{PerRecord, PeriodReport, TelemetryReport};
use crate::cli::telemetry::findings::describe_durations;
use crate::cli::telemetry::report::html::DataTable;
use crate::cli::telemetry::report::plots::{Ink, Lines, Width};
use crate::cli::telemetry::words::{NO_VALUE, measured_duration, number, percent_of, short_duration, to_f64};

const HOUR_MS: u64 = 3_600_000;
/// The plot and the table show at most so many hours, the newest.
const HOURS_MAX: usize = 9 * 24;
/// The plot and the table show at most so many days, the newest.
const DAYS_MAX: usize = 92;
/// With fewer labels, dates do not overlap.
const LABELS_WIDE: usize = 8;
const LABELS_NARROW: usize = 4;
const LEGEND: [(Ink, &str); 3] =
    [(Ink::Slowest, "95 of 100 took less"), (Ink::Mean, "mean"), (Ink::Median, "median")];

pub(super) fn section(report: &TelemetryReport) -> Section<'_> {
    let (measured_days, measured_hours) = (measured_days(report), measured_hours(report));
    let (days, hours) = (plotted_days(&measured_days), plotted_hours(&measured_hours));
    let mut figures = Vec::new();
    // One day is no line.
    if days.len() > 1 {
        figures.push(figure("By day (UTC)", "Day (UTC)", days));
    }
    figures.push(figure("By hour (UTC)", "Hour (UTC), labelled at midnight", hours));
    Section {
        id: "durations",
        question: "How long does a record take?",
        explanation: "The time from the start of a request to its response, divided by the records in it.",
        finding: describe_durations(report),
        figures,
        tables: vec![
            table("Durations by day", "Day (UTC)", &measured_days, day_name),
            table("Durations by hour", "Hour (UTC)", &measured_hours, hour_name),
        ],
    }
}

/// A period with its name in the table and its label in the plot, the oldest first.
struct Period<'a> {
    name: String,
    label: Option<String>,
    data: Option<&'a PeriodReport>,
}

/// A period in which something was measured, by the day or hour that it is.
type Measured<'a, T> = (T, &'a PeriodReport);

/// The newest days that were measured, the newest first.
fn measured_days(report: &TelemetryReport) -> Vec<Measured<'_, Date>> {
    let days = report.days.iter().filter_map(|day| Some((day.day.parse().ok()?, &day.period)));
    newest(days.collect(), DAYS_MAX)
}

/// The newest hours that were measured, the newest first.
fn measured_hours(report: &TelemetryReport) -> Vec<Measured<'_, u64>> {
    newest(report.hours.iter().map(|hour| (hour.hour, &hour.period)).collect(), HOURS_MAX)
}

fn newest<T: Ord + Copy>(mut periods: Vec<Measured<'_, T>>, max: usize) -> Vec<Measured<'_, T>> {
    periods.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    periods.truncate(max);
    periods
}

/// The days up to the newest one, also those without data.
fn plotted_days<'a>(measured: &[Measured<'a, Date>]) -> Vec<Period<'a>> {
    let (Some((last, _)), Some((first, _))) = (measured.first(), measured.last()) else {
        return Vec::new();
    };
    let days = std::iter::successors(Some(*last), |day| day.yesterday().ok()).take(DAYS_MAX);
    let mut days: Vec<Period<'_>> = days
        .take_while(|day| day >= first)
        .map(|day| Period {
            name: day_name(day),
            label: Some(day.strftime("%-d %b").to_string()),
            data: measured.iter().find(|(one, _)| *one == day).map(|(_, data)| *data),
        })
        .collect();
    days.reverse();
    days
}

/// The hours up to the newest one, also those without data.
fn plotted_hours<'a>(measured: &[Measured<'a, u64>]) -> Vec<Period<'a>> {
    let (Some((last, _)), Some((first, _))) = (measured.first(), measured.last()) else {
        return Vec::new();
    };
    let hours = std::iter::successors(Some(*last), |hour| hour.checked_sub(HOUR_MS)).take(HOURS_MAX);
    let mut hours: Vec<Period<'_>> = hours
        .take_while(|hour| hour >= first)
        .map(|hour| {
            let time = utc_time(hour);
            Period {
                name: hour_name(hour),
                label: (time.hour() == 0).then(|| time.strftime("%-d %b").to_string()),
                data: measured.iter().find(|(one, _)| *one == hour).map(|(_, data)| *data),
            }
        })
        .collect();
    hours.reverse();
    hours
}

fn day_name(day: Date) -> String {
    day.strftime("%a %-d %b %Y").to_string()
}

fn hour_name(hour: u64) -> String {
    utc_time(hour).strftime("%a %-d %b %H:00").to_string()
}

fn utc_time(ms: u64) -> Zoned {
    let time = Timestamp::from_millisecond(i64::try_from(ms).unwrap_or(i64::MAX));
    time.unwrap_or(Timestamp::MAX).to_zoned(TimeZone::UTC)
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

/// All periods that were measured, also those that are too old for the plot.
fn table<T: Copy>(
    caption: &'static str,
    period: &str,
    measured: &[Measured<'_, T>],
    name: fn(T) -> String,
) -> DataTable {
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
    let rows = measured.iter().map(|(at, data)| row(&name(*at), data));
    DataTable { caption, head: head(&names), rows: rows.collect() }
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
