//! Measures which share of a drain telemetry takes: the built daemon drains a queue, and then the same events are
//! handled once more by the same code, in the same run.
//!
//! Both alternate; only the ratio counts. `benches/README.md` explains the columns.
#![allow(clippy::expect_used, reason = "without a working setup there is nothing to measure")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "../readers/caller.rs"]
#[allow(dead_code, reason = "the other bench also ends its calls early")]
mod caller;
mod device;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use comfy_table::{Table, presets};
use fieldsync::api::BatchReport;
use fieldsync::clock::{Clock, local_hour};
use fieldsync::model::{InterfaceKind, Network};
use fieldsync::telemetry::feed::Feed;
use fieldsync::telemetry::history::History;
use fieldsync::telemetry::measurements::Measurements;

use device::{Device, RECORD_TYPES};

/// Measures the share of telemetry in a drain; prints Markdown.
#[derive(Parser)]
#[command(name = "telemetry")]
struct Options {
    /// Records of a drain
    #[arg(long, default_value_t = 100_000)]
    records: usize,
    /// Most records in a batch, a list: smaller batches are more events
    #[arg(long, value_delimiter = ',', default_value = "1000,50")]
    batches: Vec<usize>,
    /// Rounds, in each of which a queue is drained and its events are handled
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Directory of the queue, on a real disk
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    /// Set by `cargo bench`, but not by `cargo test --all-targets`
    #[arg(long, hide = true)]
    bench: bool,
}

/// The events of a drain are handled this often, because once is too short to measure.
const REPETITIONS: u32 = 20;

fn main() {
    let options = Options::parse();
    if !options.bench {
        println!("nothing is measured here: cargo bench --bench telemetry");
        return;
    }
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header([
        "batches of at most",
        "drained",
        "records/s",
        "batches",
        "measurements",
        "with history and events",
        "a save",
        "share of the drain",
    ]);
    for most in &options.batches {
        let rounds: Vec<Round> = (0..options.rounds).map(|_| measure(&options, *most)).collect();
        table.add_row(row(*most, options.records, &rounds));
    }
    println!("{table}");
}

/// One drain, and its events once more.
struct Round {
    drained: Duration,
    batches: u64,
    /// Adding the batches to the measurements.
    measured: Duration,
    /// Also to the history, and to the events of the local API.
    handled: Duration,
    /// Encoding what is saved every ten minutes.
    saved: Duration,
}

impl Round {
    fn share(&self) -> f64 {
        (self.handled + self.saved).as_secs_f64() / self.drained.as_secs_f64()
    }
}

fn measure(options: &Options, most: usize) -> Round {
    let device = Device::start(&options.dir, most);
    device.fill(options.records);
    let drained = device.drain(options.records);
    let (batches, reports) = (device.count_batches(), device.latest_batches());
    drop(device);
    let events: Vec<_> = (0..batches).zip(reports.iter().cycle()).map(|(_, report)| report.clone()).collect();

    let clock = Clock::start();
    for _ in 0..REPETITIONS {
        let mut measurements = Measurements::default();
        for report in &events {
            add_batch(&mut measurements, report);
        }
    }
    let measured = clock.now() / REPETITIONS;

    let (mut measurements, mut history) = (Measurements::default(), History::default());
    let copies: Vec<Vec<BatchReport>> = (0..REPETITIONS).map(|_| events.clone()).collect();
    let feed = Feed::default();
    let clock = Clock::start();
    for events in copies {
        for mut report in events {
            history.resolve_parent(&mut report);
            add_batch(&mut measurements, &report);
            feed.publish("batch", &report);
            history.record_send(report);
        }
    }
    let handled = clock.now() / REPETITIONS;

    let clock = Clock::start();
    for _ in 0..REPETITIONS {
        assert!(
            !measurements.unsaved_notes().is_empty() && !history.to_note().is_empty(),
            "something was measured"
        );
    }
    let saved = clock.now() / REPETITIONS;
    Round { drained, batches, measured, handled, saved }
}

/// As the daemon does, with as many types as the records have.
fn add_batch(measurements: &mut Measurements, report: &BatchReport) {
    let each = report.records as u64 / RECORD_TYPES.len() as u64 + 1;
    let types: Vec<(String, u64)> = RECORD_TYPES.iter().map(|name| ((*name).to_owned(), each)).collect();
    let network = Network { interface: Some(InterfaceKind::Loopback), ..Network::default() };
    measurements.batch_ended(report, &types, &network, local_hour(report.at));
}

fn row(most: usize, records: usize, rounds: &[Round]) -> Vec<String> {
    let of = |value: &dyn Fn(&Round) -> f64| median(rounds.iter().map(value).collect());
    let ms = |seconds: f64| format!("{:.2} ms", seconds * 1e3);
    let drained = of(&|round| round.drained.as_secs_f64());
    vec![
        most.to_string(),
        format!("{drained:.2} s"),
        format!("{:.0}", records as f64 / drained),
        format!("{:.0}", of(&|round| round.batches as f64)),
        ms(of(&|round| round.measured.as_secs_f64())),
        ms(of(&|round| round.handled.as_secs_f64())),
        ms(of(&|round| round.saved.as_secs_f64())),
        format!("**{:.2} %**", of(&Round::share) * 100.0),
    ]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
