//! Compares the durable queue with SQLite and a plain log: what its guarantees cost in time, flash and memory.
//!
//! The contestants take turns within one run, and only their ratios count: absolute figures depend on the disk and on
//! other load. `benches/README.md` explains each table.
#![allow(clippy::expect_used, reason = "what fails here leaves nothing to measure")]

mod appends;
mod child;
mod device;
mod disk;
mod fieldsync;
mod group;
mod lanes;
mod lifecycle;
mod log;
mod record;
mod scale;
mod slow;
mod sqlite;
mod table;
mod wear;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Measures the durable queue; prints Markdown.
#[derive(Parser)]
#[command(name = "store")]
struct Options {
    /// What to measure [default: all]
    parts: Vec<Part>,
    /// Directory for the files, on a real disk
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    /// appends: rounds, in each of which every contestant runs once
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// appends: concurrent producers, a list
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256,1024")]
    producers: Vec<usize>,
    /// appends: records of one producer alone; n of them share √n times as many
    #[arg(long, value_parser = record::parse_count, default_value = "3000")]
    records: usize,
    /// appends: additional sync delays to measure with, in milliseconds, a list
    #[arg(long, value_delimiter = ',', default_value = "0,2.5")]
    sync_delays: Vec<f64>,
    /// wear: records that already wait
    #[arg(long, value_parser = record::parse_count, default_value = "100k")]
    preload: usize,
    /// scale: waiting records, a list; 5M need 8 GB of disk
    #[arg(long, value_delimiter = ',', value_parser = record::parse_count, default_value = "0,100k,1M")]
    sizes: Vec<usize>,
    /// Set by `cargo bench`, but not by `cargo test --all-targets`
    #[arg(long, hide = true)]
    bench: bool,
    /// Runs as a process that is measured or killed
    #[arg(long, hide = true)]
    child: Option<child::Role>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Durable appends per second, by concurrent producers
    Appends,
    /// Bytes that reach the device for a record over its life
    Wear,
    /// Opening, memory and time of each step, by waiting records
    Scale,
    /// The cost of many records of one key: claims, pages, appends
    Lanes,
}

fn main() {
    let options = Options::parse();
    if let Some(role) = options.child {
        return child::run_role(role, &options.dir);
    }
    if !options.bench {
        println!("nothing is measured here: cargo bench --bench store");
        return;
    }
    disk::require_real_disk(&options.dir);
    let parts = if options.parts.is_empty() { Part::value_variants() } else { options.parts.as_slice() };
    for part in parts {
        match part {
            Part::Appends => {
                for delay in &options.sync_delays {
                    let delay = Duration::from_secs_f64(delay / 1000.0);
                    slow::delay_syncs(delay);
                    appends::measure_appends(
                        &options.dir,
                        delay,
                        options.rounds,
                        &options.producers,
                        options.records,
                    );
                    slow::delay_syncs(Duration::ZERO);
                }
            }
            Part::Wear => wear::measure_wear(&options.dir, options.preload),
            Part::Scale => scale::measure_scale(&options.dir, &options.sizes),
            Part::Lanes => lanes::measure_lanes(&options.dir),
        }
    }
}
