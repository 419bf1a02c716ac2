//! The tables and charts in the terminal.

use console::measure_text_width;

use super::charts::ChartStyle;
use super::tables::print_with_charts;
use super::{TelemetryArgs, run};
use crate::api::TelemetryReport;
use crate::api::samples::telemetry_week;
use crate::cli::context::CommandContext;
use crate::cli::testing::run_verb;
use crate::client::Client;
use crate::client::scripted::{ScriptedDaemon, response_step};

fn print_week(report: &TelemetryReport, width: Option<usize>, chart: ChartStyle) -> String {
    let mut out = Vec::new();
    let mut context = CommandContext {
        client: Client::new("/nowhere"),
        named_socket: None,
        json: false,
        is_terminal: width.is_some(),
        width,
        has_colour: false,
        has_pager: false,
        out: &mut out,
    };
    print_with_charts(&mut context, report, chart).unwrap();
    String::from_utf8(out).unwrap()
}

/// Cells separated by one space.
fn rows(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[tokio::test]
async fn a_report_of_an_older_daemon_has_its_tables() {
    let report = r#"{"window_s":604800,
        "per_record":{"records":4,"mean_ms":1166.4,"p50_ms":900,"p95_ms":2000},
        "by_batch_size":[{"size":"11–25","batches":4,"succeeded":3,"success_rate":0.75}],
        "by_type":[{"type":"Visits","records":4,"ms_per_record":1200.0,"failures":1,"quarantined":0}],
        "failures":[{"class":"timeout","count":1,"interface":null,"connect_ms":80.2,"round_trip_ms":null,
                     "bytes_per_s":2048.0,"signal_dbm":null}],
        "days":[]}"#;
    let daemon = ScriptedDaemon::new(vec![response_step(200, report)]);
    let args = TelemetryArgs { verb: None };
    let (code, text) = run_verb(&daemon, false, async |context| run(&args, context).await).await;
    assert_eq!(code, Ok(0));
    for row in [
        "How long does a record take? (last 7 d)",
        "4 1166 ms 900 ms 2000 ms",
        "11–25 4 3 75 % 0 0 –",
        "Visits 4 1200 ms 1 0 0 % – –",
        "no response in time 1 80 ms – 2.0 KiB/s – 0 % –",
        "No data.",
    ] {
        assert!(rows(&text).iter().any(|line| line == row), "{row}\n{text}");
    }
}

#[test]
fn a_terminal_gets_bars_and_columns_over_time() {
    let text = print_week(&telemetry_week(), Some(80), ChartStyle::Blocks);
    for row in [
        "51–100 9 5 55.5 % 4 0 2.1 █████▌",
        "3–4 31 26 83.8 % 5 0 4.1 ████████▍",
        "Photos 286 4120 ms 96 1 53 % █████▎",
        "Mobile network 19 70 % ███████",
        "▁▃▇█▁ ▁ ▁▂▂▂▁",
        "51–100 22 s 27 s 5",
    ] {
        assert!(rows(&text).iter().any(|line| line == row), "{row}\n{text}");
    }
    let ascii = print_week(&telemetry_week(), Some(80), ChartStyle::Ascii);
    assert!(rows(&ascii).iter().any(|line| line == "Photos 286 4120 ms 96 1 53 % #####"), "{ascii}");
    assert!(!ascii.contains(['█', '▁']), "{ascii}");
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    let mut week = telemetry_week();
    week.by_type[0].record_type = "PhotosOfTheShelvesInAllOfTheStoresOfTheRegion".into();
    for width in 30..120 {
        let text = print_week(&week, Some(width), ChartStyle::None);
        for line in text.lines() {
            assert!(measure_text_width(line) <= width, "{width}: {line}");
        }
    }
    for line in print_week(&week, Some(80), ChartStyle::Blocks).lines() {
        assert!(measure_text_width(line) <= 80, "{line}");
    }
}

#[test]
fn without_data_every_table_says_so() {
    let text = print_week(&TelemetryReport::default(), Some(80), ChartStyle::Blocks);
    assert_eq!(text.matches("No data.").count(), 5, "{text}");
}
