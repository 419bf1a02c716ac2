//! Measures the bytes and the processor time of each way to compress a batch, and compares them on slow links.
//!
//! Only the time of this thread counts, so other load on the machine has little influence. `benches/README.md` explains
//! the columns, and the choice of levels in `transport/encoding.rs`.
#![allow(clippy::expect_used, reason = "without a working setup there is nothing to measure")]

mod bodies;
mod contestants;
mod report;

use std::path::PathBuf;

use clap::Parser;

use bodies::Record;
use contestants::Contestant;

/// Records of a batch: the default for a large queue, four times as many, and all records in one batch.
const SIZES: [usize; 3] = [25, 100, usize::MAX];

/// Measures the compression of batches; prints Markdown.
#[derive(Parser)]
#[command(name = "compression")]
struct Options {
    /// NDJSON as for `fieldsync enqueue` [default: generated records]
    files: Vec<PathBuf>,
    /// Rounds, in each of which every contestant runs once
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Set by `cargo bench`, but not by `cargo test --all-targets`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    if !options.bench {
        println!("nothing is measured here: cargo bench --bench compression");
        return;
    }
    let records = if options.files.is_empty() {
        println!("No files were named: these records are generated.");
        bodies::generated()
    } else {
        options.files.iter().flat_map(|file| bodies::read(file)).collect()
    };
    for size in SIZES {
        measure(&records, size.min(records.len()), options.rounds);
    }
}

fn measure(records: &[Record], size: usize, rounds: usize) {
    let bodies = bodies::batches(records, size);
    let mut contestants = contestants::all();
    for _ in 0..rounds {
        for contestant in &mut contestants {
            contestant.run(&bodies);
        }
    }
    let plain = bodies.iter().map(Vec::len).sum::<usize>() / bodies.len();
    let measured: Vec<_> = contestants.iter().map(Contestant::measured).collect();
    report::print(size, plain, &measured);
}
