//! Measures how much of its throughput the gateway keeps with a destination that answers at once: the built gateway with
//! and without a CRM behind it, by turns, within one run; only the ratio counts.
//!
//! `benches/README.md` explains the columns.
#![allow(clippy::expect_used, reason = "without a working setup there is nothing to measure")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod device;
mod gateway;
mod instant_crm;

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Parser;
use comfy_table::{Table, presets};
use fieldsync::clock::Clock;

use device::Device;
use gateway::RunningGateway;
use instant_crm::InstantCrm;

/// Measures batches through a gateway with and without a destination; prints Markdown.
#[derive(Parser)]
#[command(name = "destination")]
struct Options {
    /// Rounds, in each of which both gateways get batches
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Seconds of each half of a round
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Devices that send at the same time
    #[arg(long, value_delimiter = ',', default_value = "1,4,16")]
    devices: Vec<usize>,
    /// Records in a batch
    #[arg(long, value_delimiter = ',', default_value = "25,100")]
    batch: Vec<usize>,
    /// Directory of the ledgers, on a real disk
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    /// Set by `cargo bench`, but not by `cargo test --all-targets`
    #[arg(long, hide = true)]
    bench: bool,
}

/// Records a second of both gateways, in one round.
struct Round {
    without: f64,
    with: f64,
}

impl Round {
    fn ratio(&self) -> f64 {
        self.with / self.without
    }
}

fn main() {
    let options = Options::parse();
    if !options.bench {
        println!("nothing is measured here: cargo bench --bench destination");
        return;
    }
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header([
        "devices",
        "records of a batch",
        "without a destination",
        "with one",
        "ratio (lowest–highest)",
    ]);
    for devices in &options.devices {
        for records in &options.batch {
            table.add_row(measure(*devices, *records, &options));
        }
    }
    println!("{table}");
}

fn measure(devices: usize, records: usize, options: &Options) -> [String; 5] {
    let crm = InstantCrm::start();
    let without = RunningGateway::start(&options.dir, None);
    let with = RunningGateway::start(&options.dir, Some(&crm));
    let time = Duration::from_secs(options.seconds);
    let rounds: Vec<Round> = (0..options.rounds)
        .map(|_| Round {
            without: records_per_second(&without, devices, records, time),
            with: records_per_second(&with, devices, records, time),
        })
        .collect();
    let middle = |figure: &dyn Fn(&Round) -> f64| sorted(&rounds, figure)[rounds.len() / 2];
    let ratios = sorted(&rounds, &Round::ratio);
    let ends = [ratios.first(), ratios.last()].map(|ratio| ratio.copied().unwrap_or_default());
    [
        devices.to_string(),
        records.to_string(),
        format!("{:.0}", middle(&|round| round.without)),
        format!("{:.0}", middle(&|round| round.with)),
        format!("**{:.2}** ({:.2}–{:.2})", middle(&Round::ratio), ends[0], ends[1]),
    ]
}

fn sorted(rounds: &[Round], figure: &dyn Fn(&Round) -> f64) -> Vec<f64> {
    let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures
}

/// Records that the gateway confirms per second while devices send batch after batch.
fn records_per_second(gateway: &RunningGateway, devices: usize, records: usize, time: Duration) -> f64 {
    let clock = Clock::start();
    let threads: Vec<_> = (0..devices)
        .map(|_| {
            let mut device = Device::connect(gateway.address);
            thread::spawn(move || {
                let mut confirmed = 0;
                while clock.now() < time {
                    device.send_batch(records);
                    confirmed += records;
                }
                confirmed
            })
        })
        .collect();
    let confirmed: usize = threads.into_iter().map(|thread| thread.join().expect("a device ends")).sum();
    confirmed as f64 / clock.now().as_secs_f64()
}
