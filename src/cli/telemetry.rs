//! `fieldsync telemetry`: a small table for each of the four questions, and the days.

use super::context::Context;
use super::failure::Failure;
use super::table::{Cell, Column, Table, name, whole};
use super::words::{count, mean_ms, plain, share, size, spaced, span};
use crate::api::{FailureReport, PerRecord, TelemetryReport};
use crate::exit;

pub(crate) async fn run(context: &mut Context<'_>) -> Result<u8, Failure> {
    let answer = context.client.get("/v1/telemetry").await?;
    context.present(&answer, |context, report: TelemetryReport| view(context, &report))?;
    Ok(exit::DONE)
}

fn view(context: &mut Context<'_>, report: &TelemetryReport) -> Result<(), Failure> {
    let window = span(report.window_s.saturating_mul(1000));
    context.text(format!("How long does a record take? (last {window})\n"))?;
    let durations = per_record(&report.per_record);
    question(context, &["RECORDS", "MEAN", "MEDIAN", "95 % WITHIN"].map(whole), [durations])?;

    context.text("\nWhich batch sizes get through?\n")?;
    let sizes = report.by_batch_size.iter().map(|bucket| {
        [
            plain(&bucket.size).into_owned(),
            bucket.batches.to_string(),
            bucket.succeeded.to_string(),
            share(bucket.succeeded, bucket.batches),
        ]
    });
    question(context, &["BATCH SIZE", "SENT", "ANSWERED", "SUCCESS"].map(whole), sizes)?;

    context.text("\nWhich types cause delays?\n")?;
    let types = report.by_type.iter().map(|kind| {
        [
            plain(&kind.record_type).into_owned(),
            kind.records.to_string(),
            mean_ms(kind.ms_per_record),
            kind.failures.to_string(),
            kind.quarantined.to_string(),
        ]
    });
    let columns =
        [name("TYPE"), whole("SYNCED"), whole("PER RECORD"), whole("FAILURES"), whole("QUARANTINED")];
    question(context, &columns, types)?;

    context.text("\nWhat was the network like when it failed?\n")?;
    let columns = ["FAILURE", "COUNT", "INTERFACE", "CONNECT", "ROUND TRIP", "UPLOAD", "SIGNAL"].map(whole);
    question(context, &columns, report.failures.iter().map(failure))?;

    context.text("\nDay by day (UTC)\n")?;
    let columns =
        ["DAY", "RECORDS", "MEAN", "MEDIAN", "95 % WITHIN", "BATCHES", "SUCCESS", "QUARANTINED"].map(whole);
    let days = report.days.iter().map(|day| {
        let [records, mean, median, most] = per_record(&day.per_record);
        [
            plain(&day.day).into_owned(),
            records,
            mean,
            median,
            most,
            day.batches.to_string(),
            share(day.succeeded, day.batches),
            day.quarantined.to_string(),
        ]
    });
    question(context, &columns, days)
}

fn question<const N: usize>(
    context: &mut Context<'_>,
    columns: &[Column],
    rows: impl IntoIterator<Item = [String; N]>,
) -> Result<(), Failure> {
    let mut table = Table::new(columns);
    for row in rows {
        table.row(row.map(Cell::from));
    }
    if table.is_empty() {
        return context.line("Nothing to tell.");
    }
    table.print(context)
}

fn per_record(times: &PerRecord) -> [String; 4] {
    if times.records == 0 {
        return ["0".to_owned(), dash(), dash(), dash()];
    }
    [
        times.records.to_string(),
        mean_ms(times.mean_ms),
        format!("{} ms", times.p50_ms),
        format!("{} ms", times.p95_ms),
    ]
}

fn failure(report: &FailureReport) -> [String; 7] {
    [
        spaced(&report.class),
        count(report.count, "time"),
        report.interface.as_deref().map_or_else(dash, |kind| plain(kind).into_owned()),
        report.connect_ms.map_or_else(dash, mean_ms),
        report.round_trip_ms.map_or_else(dash, mean_ms),
        report.bytes_per_s.map_or_else(dash, rate),
        report.signal_dbm.map_or_else(dash, |dbm| format!("{dbm:.0} dBm")),
    ]
}

fn dash() -> String {
    "–".to_owned()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is positive, and saturates"
)]
fn rate(bytes_per_s: f64) -> String {
    format!("{}/s", size(bytes_per_s as u64))
}

#[cfg(test)]
mod tests {
    use super::super::testing::run;
    use crate::client::scripted::{Scripted, answer_step};

    #[tokio::test]
    async fn every_question_has_its_table() {
        let report = r#"{"window_s":604800,
            "per_record":{"records":4,"mean_ms":1166.4,"p50_ms":900,"p95_ms":2000},
            "by_batch_size":[{"size":"11–25","batches":4,"succeeded":3,"success_rate":0.75}],
            "by_type":[{"type":"Visits","records":4,"ms_per_record":1200.0,"failures":1,"quarantined":0}],
            "failures":[{"class":"timeout","count":1,"interface":null,"connect_ms":80.2,"round_trip_ms":null,
                         "bytes_per_s":2048.0,"signal_dbm":null}],
            "days":[]}"#;
        let daemon = Scripted::new(vec![answer_step(200, report)]);
        let (code, text) = run(&daemon, false, async |context| super::run(context).await).await;
        assert_eq!(code, Ok(0));
        let rows: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for row in [
            "How long does a record take? (last 7 d)",
            "4 1166 ms 900 ms 2000 ms",
            "11–25 4 3 75 %",
            "Visits 4 1200 ms 1 0",
            "timeout 1 time – 80 ms – 2.0 KiB/s –",
            "Nothing to tell.",
        ] {
            assert!(rows.iter().any(|line| line == row), "{row}\n{text}");
        }
    }
}
