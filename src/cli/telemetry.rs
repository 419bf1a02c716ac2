//! `fieldsync telemetry`: a small table for each of four questions, and one for the days.

use super::context::CommandContext;
use super::failure::CommandFailure;
use super::format::{count, duration, mean_ms, percent, size, strip_controls, with_spaces};
use super::state_words::class_word;
use super::table::{Cell, Column, TextTable, name_column, whole_column};
use crate::api::{FailureReport, PerRecord, TelemetryReport};
use crate::exit;

pub(crate) async fn run(context: &mut CommandContext<'_>) -> Result<u8, CommandFailure> {
    let response = context.client.get("/v1/telemetry").await?;
    context.print_response(&response, |context, report: TelemetryReport| print_report(context, &report))?;
    Ok(exit::DONE)
}

fn print_report(context: &mut CommandContext<'_>, report: &TelemetryReport) -> Result<(), CommandFailure> {
    let window = duration(report.window_s.saturating_mul(1000));
    context.print_wrapped(format!("How long does a record take? (last {window})\n"))?;
    let durations = format_times(&report.per_record);
    print_table(context, &["RECORDS", "MEAN", "MEDIAN", "95 % WITHIN"].map(whole_column), [durations])?;

    context.print_wrapped("\nWhich batch sizes get through?\n")?;
    let sizes = report.by_batch_size.iter().map(|bucket| {
        [
            strip_controls(&bucket.size).into_owned(),
            bucket.outcomes.batches.to_string(),
            bucket.outcomes.succeeded.to_string(),
            percent(bucket.outcomes.succeeded, bucket.outcomes.batches),
        ]
    });
    print_table(context, &["BATCH SIZE", "SENT", "ANSWERED", "SUCCESS"].map(whole_column), sizes)?;

    context.print_wrapped("\nWhich types cause delays?\n")?;
    let types = report.by_type.iter().map(|kind| {
        [
            strip_controls(&kind.record_type).into_owned(),
            kind.records.to_string(),
            mean_ms(kind.ms_per_record),
            kind.failures.to_string(),
            kind.quarantined.to_string(),
        ]
    });
    let columns = [
        name_column("TYPE"),
        whole_column("RECORDS"),
        whole_column("PER RECORD"),
        whole_column("FAILURES"),
        whole_column("NEED REVIEW"),
    ];
    print_table(context, &columns, types)?;

    context.print_wrapped("\nWhat was the network like when it failed?\n")?;
    let columns =
        ["FAILURE", "COUNT", "INTERFACE", "CONNECT", "ROUND TRIP", "UPLOAD", "SIGNAL"].map(whole_column);
    print_table(context, &columns, report.failures.iter().map(format_failure))?;

    context.print_wrapped("\nDay by day (UTC)\n")?;
    let columns = ["DAY", "RECORDS", "MEAN", "MEDIAN", "95 % WITHIN", "BATCHES", "SUCCESS", "NEED REVIEW"]
        .map(whole_column);
    let days = report.days.iter().map(|day| {
        let [records, mean, median, most] = format_times(&day.period.per_record);
        [
            strip_controls(&day.day).into_owned(),
            records,
            mean,
            median,
            most,
            day.period.outcomes.batches.to_string(),
            percent(day.period.outcomes.succeeded, day.period.outcomes.batches),
            day.period.quarantined.to_string(),
        ]
    });
    print_table(context, &columns, days)
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

fn format_failure(report: &FailureReport) -> [String; 7] {
    [
        with_spaces(&class_word(&report.class)),
        count(report.count, "time"),
        report.interface.as_deref().map_or_else(no_value, |kind| strip_controls(kind).into_owned()),
        report.connect_ms.map_or_else(no_value, mean_ms),
        report.round_trip_ms.map_or_else(no_value, mean_ms),
        report.bytes_per_s.map_or_else(no_value, format_rate),
        report.signal_dbm.map_or_else(no_value, |dbm| format!("{dbm:.0} dBm")),
    ]
}

fn no_value() -> String {
    "–".to_owned()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is positive, and saturates"
)]
fn format_rate(bytes_per_s: f64) -> String {
    format!("{}/s", size(bytes_per_s as u64))
}

#[cfg(test)]
mod tests {
    use super::super::testing::run_verb;
    use crate::client::scripted::{ScriptedDaemon, response_step};

    #[tokio::test]
    async fn every_question_has_its_table() {
        let report = r#"{"window_s":604800,
            "per_record":{"records":4,"mean_ms":1166.4,"p50_ms":900,"p95_ms":2000},
            "by_batch_size":[{"size":"11–25","batches":4,"succeeded":3,"success_rate":0.75}],
            "by_type":[{"type":"Visits","records":4,"ms_per_record":1200.0,"failures":1,"quarantined":0}],
            "failures":[{"class":"timeout","count":1,"interface":null,"connect_ms":80.2,"round_trip_ms":null,
                         "bytes_per_s":2048.0,"signal_dbm":null}],
            "days":[]}"#;
        let daemon = ScriptedDaemon::new(vec![response_step(200, report)]);
        let (code, text) = run_verb(&daemon, false, async |context| super::run(context).await).await;
        assert_eq!(code, Ok(0));
        let rows: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for row in [
            "How long does a record take? (last 7 d)",
            "4 1166 ms 900 ms 2000 ms",
            "11–25 4 3 75 %",
            "Visits 4 1200 ms 1 0",
            "timeout 1 time – 80 ms – 2.0 KiB/s –",
            "No data.",
        ] {
            assert!(rows.iter().any(|line| line == row), "{row}\n{text}");
        }
    }
}
