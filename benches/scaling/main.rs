//! Measures whether the cost of a record depends on how many others wait, and on its size.
//!
//! The built daemon takes in records over its socket and sends them to a server in this process that confirms
//! everything. Figures are ratios to the first row of the same run. `benches/README.md` explains the tables.
#![allow(clippy::expect_used, reason = "without a working setup there is nothing to measure")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod backlog;
#[path = "../readers/caller.rs"]
#[allow(dead_code, reason = "the other bench also ends its calls early")]
mod caller;
mod curves;
mod device;
#[path = "../store/disk.rs"]
#[allow(dead_code, reason = "the other bench also drops the page cache")]
mod disk;
mod plot;
mod process;
mod record;
mod record_size;
mod report;
mod server;

use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};

use backlog::BacklogScene;
use curves::Curves;
use plot::Panel;
use record::Keys;

/// Measures whether the cost of a record depends on the backlog and on its size; prints Markdown.
#[derive(Parser)]
#[command(name = "scaling")]
struct Options {
    /// What to measure [default: all]
    #[arg(long = "table")]
    tables: Vec<TableKind>,
    /// Waiting records, a list
    #[arg(long, value_delimiter = ',', value_parser = record::parse_count, default_value = "1k,10k,100k,1M")]
    backlogs: Vec<u64>,
    /// Also with five million waiting records; takes longer, and 6 GB of disk
    #[arg(long)]
    large: bool,
    /// keys: waiting records, a list
    #[arg(long, value_delimiter = ',', value_parser = record::parse_count, default_value = "10k,1M")]
    key_backlogs: Vec<u64>,
    /// Rounds, in each of which every row is measured once
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Records that are taken in and sent in a round
    #[arg(long, default_value_t = 2000)]
    turnover: u64,
    /// Writes the plot to this file
    #[arg(long)]
    plot: Option<PathBuf>,
    /// Directory of programs that are measured instead of those that were built with this bench
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Directory of the queues, on a real disk
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    /// Set by `cargo bench`, but not by `cargo test --all-targets`
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn daemon(&self) -> PathBuf {
        let built = Path::new(env!("CARGO_BIN_EXE_fieldsyncd"));
        match &self.programs {
            Some(programs) => programs.join("fieldsyncd").canonicalize().expect("the program exists"),
            None => built.to_owned(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TableKind {
    /// By the number of waiting records
    Backlog,
    /// By the size of a record
    RecordSize,
    /// By the number of waiting records, where they have keys
    Keys,
}

/// With more waiting records, a row takes minutes.
const LARGE_BACKLOG: u64 = 5_000_000;
/// A server that does not keep the order of a key gets it in batches of one record, so fewer are sent.
const SINGLE_TURNOVER: u64 = 300;
/// What the plot shows.
const BACKLOG_CURVES: [&str; 7] =
    ["append 100", "send", "send: CPU", "send: written", "status", "first page", "rounds: peak"];
const SIZE_CURVES: [&str; 4] = ["append of 1 KiB", "send of 1 KiB", "written / payload", "peak"];

fn main() {
    let options = Options::parse();
    if !options.bench {
        println!("nothing is measured here: cargo bench --bench scaling");
        return;
    }
    disk::require_real_disk(&options.dir);
    let program = options.daemon();
    let is_wanted = |table| options.tables.is_empty() || options.tables.contains(&table);
    let backlog = is_wanted(TableKind::Backlog).then(|| measure_backlog(&options, &program));
    let sizes = is_wanted(TableKind::RecordSize).then(|| {
        let curves = record_size::measure_record_sizes(&program, &options.dir, options.rounds);
        curves.print("By the size of a record", "payload");
        curves
    });
    if is_wanted(TableKind::Keys) {
        measure_keys(&options, &program);
    }
    if let Some(file) = &options.plot {
        write_plot(file, backlog.as_ref(), sizes.as_ref());
    }
}

fn measure_backlog(options: &Options, program: &Path) -> Curves {
    let mut backlogs = options.backlogs.clone();
    if options.large {
        backlogs.push(LARGE_BACKLOG);
    }
    let scene = BacklogScene {
        program,
        dir: &options.dir,
        backlogs: &backlogs,
        rounds: options.rounds,
        keys: Keys::None,
        holds_keys: true,
        turnover: options.turnover,
        is_complete: true,
    };
    let curves = scene.measure();
    curves.print("By the number of waiting records", "waiting");
    curves
}

fn measure_keys(options: &Options, program: &Path) {
    let cases = [
        ("A key for each record", Keys::Each, true),
        ("One key for all records", Keys::One, true),
        ("A key for each record, a server that does not keep their order", Keys::Each, false),
        ("One key for all records, a server that does not keep their order", Keys::One, false),
    ];
    for (title, keys, holds_keys) in cases {
        let is_single = keys == Keys::One && !holds_keys;
        let scene = BacklogScene {
            program,
            dir: &options.dir,
            backlogs: &options.key_backlogs,
            rounds: options.rounds,
            keys,
            holds_keys,
            turnover: if is_single { SINGLE_TURNOVER } else { options.turnover },
            is_complete: false,
        };
        scene.measure().print(title, "waiting");
    }
}

fn write_plot(file: &Path, backlog: Option<&Curves>, sizes: Option<&Curves>) {
    let mut panels = Vec::new();
    if let Some(curves) = backlog {
        let (title, x_title) = ("Cost of a record beside others that wait", "waiting records");
        panels.push(Panel { title, x_title, curves, names: &BACKLOG_CURVES });
    }
    if let Some(curves) = sizes {
        let (title, x_title) = ("Cost of 1 KiB of payload by the size of a record", "payload of a record");
        panels.push(Panel { title, x_title, curves, names: &SIZE_CURVES });
    }
    plot::write_plot(file, &panels);
}
