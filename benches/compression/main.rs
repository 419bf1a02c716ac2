//! What each way to compress a batch costs in bytes and in time of the processor, and which is best on slow links.
//!
//! Time is that of this thread alone, so neighbours count little. Beside this file's README stands what
//! each column says, and why the levels in `transport/encoding.rs` are what they are.
#![allow(clippy::expect_used, reason = "what fails here leaves nothing to measure")]

mod bodies;
mod contestants;
mod report;

use std::path::PathBuf;

use clap::Parser;

use bodies::Record;
use contestants::Contestant;

/// Records of a batch: a large queue's, the most by default; and, beyond any, all in one.
const SIZES: [usize; 3] = [25, 100, usize::MAX];

/// Measures the compression of batches; prints Markdown.
#[derive(Parser)]
#[command(name = "compression")]
struct Options {
    /// NDJSON as `fieldsync enqueue` takes it [default: generated records]
    files: Vec<PathBuf>,
    /// In each of which every contestant runs once
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// What `cargo bench` says and `cargo test --all-targets` does not
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
