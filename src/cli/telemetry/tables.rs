//! The measurements in the terminal: a question, its answer in a sentence, and a table with small charts.

use super::charts::ChartStyle;
use super::findings::{
    describe_durations, describe_estimates, describe_failures, describe_in_flight, describe_sizes,
    describe_types, failures_by_hour, failures_by_interface,
};
use super::words::{
    NO_VALUE, class_name, interface_title, measured_duration, percent_of, rate, share, short_duration, to_f64,
};
use crate::api::{FailureReport, Outcomes, PerRecord, TelemetryReport};
use crate::cli::context::CommandContext;
use crate::cli::failure::CommandFailure;
use crate::cli::format::{duration, mean_ms, percent, size, strip_controls};
use crate::cli::table::{Cell, Column, TextTable, extra_column, name_column, whole_column};
use crate::clock::minute_text;

/// The hours of the line of columns.
const SPARKLINE_HOURS: u64 = 48;
const HOUR_MS: u64 = 3_600_000;
/// A narrower terminal shows no medians of record types.
const TYPES_WIDTH_WITH_MEDIANS: usize = 110;

pub(super) fn print_tables(
    context: &mut CommandContext<'_>,
    report: &TelemetryReport,
) -> Result<(), CommandFailure> {
    let chart = ChartStyle::of(context);
    print_with_charts(context, report, chart)
}

pub(super) fn print_with_charts(
    context: &mut CommandContext<'_>,
    report: &TelemetryReport,
    chart: ChartStyle,
) -> Result<(), CommandFailure> {
    print_durations(context, report, chart)?;
    print_sizes(context, report, chart)?;
    print_in_flight(context, report, chart)?;
    print_types(context, report, chart)?;
    print_failures(context, report, chart)?;
    print_estimates(context, report)?;
    print_days(context, report, chart)
}

fn print_durations(
    context: &mut CommandContext<'_>,
    report: &TelemetryReport,
    chart: ChartStyle,
) -> Result<(), CommandFailure> {
    let window = duration(report.window_s.saturating_mul(1000));
    print_question(
        context,
        &format!("How long does a record take? (last {window})"),
        describe_durations(report),
    )?;
    let durations = format_times(&report.per_record);
    print_table(context, &["RECORDS", "MEAN", "MEDIAN", "95 % WITHIN"].map(whole_column), [durations])?;
    let hours = newest_hours(report);
    let Some(line) = chart.sparkline(&hours) else {
        return Ok(());
    };
    let highest = hours.iter().flatten().copied().fold(0.0, f64::max);
    context.print_line(format!("\n{line}"))?;
    let end = report.hours.iter().map(|hour| hour.hour + HOUR_MS).max().unwrap_or_default();
    context.print_wrapped(format!(
        "Mean per record, hour by hour: {} hours to {}; the highest is {}.",
        hours.len(),
        minute_text(end),
        short_duration(highest)
    ))
}

/// The mean of each hour up to the newest one.
fn newest_hours(report: &TelemetryReport) -> Vec<Option<f64>> {
    let Some(newest) = report.hours.iter().map(|hour| hour.hour).max() else {
        return Vec::new();
    };
    let first = report.hours.iter().map(|hour| hour.hour).min().unwrap_or(newest);
    let count = ((newest - first) / HOUR_MS + 1).min(SPARKLINE_HOURS);
    let mean = |at: u64| {
        let hour = report.hours.iter().find(|hour| hour.hour == at)?;
        (hour.period.per_record.records > 0).then_some(hour.period.per_record.mean_ms)
    };
    (0..count).rev().map(|back| mean(newest - back * HOUR_MS)).collect()
}

fn print_sizes(
    context: &mut CommandContext<'_>,
    report: &TelemetryReport,
    chart: ChartStyle,
) -> Result<(), CommandFailure> {
    print_question(context, "\nWhich batch sizes get through?", describe_sizes(report))?;
    let rows = report.by_batch_size.iter().map(|bucket| (bucket.size.as_str(), &bucket.outcomes));
    print_outcomes(context, "BATCH SIZE", rows, chart)
}

fn print_in_flight(
    context: &mut CommandContext<'_>,
    report: &TelemetryReport,
    chart: ChartStyle,
) -> Result<(), CommandFailure> {
    print_question(context, "\nHow many batches at once?", describe_in_flight(report))?;
    let rows = report.by_in_flight.iter().map(|bucket| (bucket.in_flight.as_str(), &bucket.outcomes));
    print_outcomes(context, "AT ONCE", rows, chart)
}

fn print_outcomes<'a>(
    context: &mut CommandContext<'_>,
    name: &'static str,
    rows: impl Iterator<Item = (&'a str, &'a Outcomes)>,
    chart: ChartStyle,
) -> Result<(), CommandFailure> {
    let columns = [
        whole_column(name),
        whole_column("SENT"),
        whole_column("SUCCEEDED"),
        whole_column("SUCCESS"),
        extra_column("TIMEOUT"),
        extra_column("REFUSED"),
        extra_column("RECORDS/S"),
        extra_column(""),
    ];
    let rows = rows.map(|(name, outcomes)| {
        [
            strip_controls(name).into_owned(),
            outcomes.batches.to_string(),
            outcomes.succeeded.to_string(),
            percent(outcomes.succeeded, outcomes.batches),
            outcomes.timeouts.to_string(),
            outcomes.refused.to_string(),
            rate(outcomes.records_per_s),
            chart.bar(outcomes.success_rate.unwrap_or_default()),
        ]
    });
    print_table(context, &columns, rows)
}

fn print_types(
    context: &mut CommandContext<'_>,
    report: &TelemetryReport,
    chart: ChartStyle,
) -> Result<(), CommandFailure> {
    print_question(context, "\nWhich types cause delays?", describe_types(report))?;
    let types = report.by_type.iter().map(|kind| {
        [
            strip_controls(&kind.record_type).into_owned(),
            kind.records.to_string(),
            mean_ms(kind.ms_per_record),
            kind.failures.to_string(),
            kind.quarantined.to_string(),
            share(kind.delay_share),
            chart.bar(kind.delay_share),
            measured_duration(kind.per_record.p50_ms, kind.per_record.records),
            measured_duration(kind.per_record.p95_ms, kind.per_record.records),
        ]
    });
    let columns = [
        name_column("TYPE"),
        whole_column("RECORDS"),
        whole_column("PER RECORD"),
        whole_column("FAILURES"),
        whole_column("NEED REVIEW"),
        extra_column("OF ALL TIME"),
        extra_column(""),
        extra_column("MEDIAN"),
        extra_column("95 % WITHIN"),
    ];
    if context.width.is_some_and(|width| width < TYPES_WIDTH_WITH_MEDIANS) {
        // The shares say more, and there is no space for both.
        let types = types.map(|[name, records, each, failures, review, share, bar, ..]| {
            [name, records, each, failures, review, share, bar]
        });
        return print_table(context, &columns[..7], types);
    }
    print_table(context, &columns, types)
}

fn print_failures(
    context: &mut CommandContext<'_>,
    report: &TelemetryReport,
    chart: ChartStyle,
) -> Result<(), CommandFailure> {
    print_question(context, "\nWhat was the network like when it failed?", describe_failures(report))?;
    let columns = [
        whole_column("FAILURE"),
        whole_column("COUNT"),
        whole_column("CONNECT"),
        whole_column("ROUND TRIP"),
        whole_column("UPLOAD"),
        whole_column("SIGNAL"),
        extra_column("METERED"),
        extra_column("LINK UP FOR"),
    ];
    print_table(context, &columns, report.failures.iter().map(format_failure))?;
    let interfaces = failures_by_interface(&report.failures);
    let total: u64 = interfaces.iter().map(|(_, count)| count).sum();
    if total > 0 {
        context.print_line("")?;
        let rows = interfaces.iter().map(|(name, count)| {
            let part = to_f64(*count) / to_f64(total);
            [interface_title(name), count.to_string(), share(part), chart.bar(part)]
        });
        let columns =
            [whole_column("NETWORK"), whole_column("FAILURES"), whole_column("SHARE"), extra_column("")];
        print_table(context, &columns, rows)?;
    }
    let hours = failures_by_hour(&report.failures).map(|count| (count > 0).then(|| to_f64(count)));
    if let Some(line) = chart.sparkline(&hours) {
        context.print_line(format!("\n{line}\n0     6     12    18   23"))?;
        context.print_wrapped("Failures by hour of the day, in the time zone of the device.")?;
    }
    Ok(())
}

fn print_estimates(context: &mut CommandContext<'_>, report: &TelemetryReport) -> Result<(), CommandFailure> {
    let Some(sentence) = describe_estimates(report) else {
        return Ok(());
    };
    print_question(context, "\nDoes the daemon expect the right durations?", Some(sentence))?;
    let rows = report.by_batch_size.iter().filter(|bucket| bucket.expected > 0).map(|bucket| {
        [
            strip_controls(&bucket.size).into_owned(),
            bucket.expected_ms.map_or_else(no_value, short_duration),
            bucket.mean_ms.map_or_else(no_value, short_duration),
            bucket.expected.to_string(),
        ]
    });
    print_table(context, &["BATCH SIZE", "EXPECTED", "MEASURED", "BATCHES"].map(whole_column), rows)
}

fn print_days(
    context: &mut CommandContext<'_>,
    report: &TelemetryReport,
    chart: ChartStyle,
) -> Result<(), CommandFailure> {
    print_question(context, "\nDay by day (UTC)", None)?;
    let columns = [
        whole_column("DAY"),
        whole_column("RECORDS"),
        whole_column("MEAN"),
        whole_column("MEDIAN"),
        whole_column("95 % WITHIN"),
        whole_column("BATCHES"),
        whole_column("SUCCESS"),
        extra_column("NEED REVIEW"),
    ];
    let days = report.days.iter().map(|day| {
        let period = &day.period;
        let [records, mean, median, most] = format_times(&period.per_record);
        [
            strip_controls(&day.day).into_owned(),
            records,
            mean,
            median,
            most,
            period.outcomes.batches.to_string(),
            percent(period.outcomes.succeeded, period.outcomes.batches),
            period.quarantined.to_string(),
        ]
    });
    print_table(context, &columns, days)?;
    if chart != ChartStyle::None && report.per_record.records > 0 {
        context.print_wrapped("\nWith plots, as a page: fieldsync telemetry report --html FILE")?;
    }
    Ok(())
}

fn print_question(
    context: &mut CommandContext<'_>,
    question: &str,
    finding: Option<String>,
) -> Result<(), CommandFailure> {
    context.print_wrapped(question)?;
    finding.map_or(Ok(()), |finding| context.print_wrapped(finding))?;
    context.print_line("")
}

fn print_table<const N: usize>(
    context: &mut CommandContext<'_>,
    columns: &[Column],
    rows: impl IntoIterator<Item = [String; N]>,
) -> Result<(), CommandFailure> {
    let mut table = TextTable::new(columns);
    for row in rows {
        table.push_row(row.map(Cell::from));
    }
    if table.is_empty() {
        return context.print_line("No data.");
    }
    table.print(context)
}

fn format_times(times: &PerRecord) -> [String; 4] {
    if times.records == 0 {
        return ["0".to_owned(), no_value(), no_value(), no_value()];
    }
    [
        times.records.to_string(),
        mean_ms(times.mean_ms),
        format!("{} ms", times.p50_ms),
        format!("{} ms", times.p95_ms),
    ]
}

fn format_failure(report: &FailureReport) -> [String; 8] {
    [
        class_name(&report.class),
        report.count.to_string(),
        report.connect_ms.map_or_else(no_value, mean_ms),
        report.round_trip_ms.map_or_else(no_value, mean_ms),
        report.bytes_per_s.map_or_else(no_value, format_rate),
        report.signal_dbm.map_or_else(no_value, |dbm| format!("{dbm:.0} dBm")),
        percent_of(report.metered, report.count),
        report.link_age_s.map_or_else(no_value, |seconds| short_duration(seconds * 1000.0)),
    ]
}

fn no_value() -> String {
    NO_VALUE.to_owned()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is positive, and saturates"
)]
fn format_rate(bytes_per_s: f64) -> String {
    format!("{}/s", size(bytes_per_s as u64))
}
