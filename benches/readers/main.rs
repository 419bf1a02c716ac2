//! Measures how much readers slow down the enqueueing of records: the built daemon, a large queue, and readers on all
//! other connections that repeat their request after each response.
//!
//! Records are enqueued alternately without and with readers, within one run; only the ratio counts.
//! `benches/README.md` explains the columns.
#![allow(clippy::expect_used, reason = "without a working setup there is nothing to measure")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod caller;
mod device;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use clap::Parser;
use comfy_table::{Table, presets};
use fieldsync::clock::Clock;

use caller::Caller;
use device::Device;

/// Measures a POST beside readers; prints Markdown.
#[derive(Parser)]
#[command(name = "readers")]
struct Options {
    /// Waiting records
    #[arg(long, default_value_t = 1_000_000)]
    records: usize,
    /// Connections of the daemon; readers use all but two
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Rounds, in each of which records are enqueued without and with readers
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Records enqueued in each half of a round
    #[arg(long, default_value_t = 100)]
    posts: usize,
    /// Only calls with this in their name
    #[arg(long, default_value = "")]
    only: String,
    /// Directory of the queue, on a real disk
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    /// Set by `cargo bench`, but not by `cargo test --all-targets`
    #[arg(long, hide = true)]
    bench: bool,
}

/// The calls that readers repeat.
const CALLS: [(&str, &[&str]); 10] = [
    ("status", &["GET /v1/status"]),
    ("list of 1000", &["GET /v1/records?limit=1000"]),
    ("list that finds nothing", &["GET /v1/records?type=nosuch"]),
    ("list by state", &["GET /v1/records?state=FAILED"]),
    ("manifest", &["GET /v1/manifest"]),
    ("metrics", &["GET /metrics"]),
    ("telemetry, batches", &["GET /v1/telemetry", "GET /v1/batches?limit=500"]),
    ("openapi.json", &["GET /v1/openapi.json"]),
    ("sync now", &["POST /v1/sync"]),
    (
        "all of them",
        &[
            "GET /v1/status",
            "GET /v1/records?type=nosuch",
            "GET /v1/records?limit=1000",
            "GET /v1/manifest",
            "GET /metrics",
            "GET /v1/telemetry",
            "GET /v1/openapi.json",
            "POST /v1/sync",
        ],
    ),
];

fn main() {
    let options = Options::parse();
    if !options.bench {
        println!("nothing is measured here: cargo bench --bench readers");
        return;
    }
    let device = Device::start(&options.dir, options.connections);
    device.fill(options.records);
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header([
        "readers loop",
        "answers/s",
        "POST alone",
        "beside them",
        "ratio",
        "p95 alone",
        "p95 beside them",
        "ratio",
        "pause",
    ]);
    for (name, calls) in CALLS.iter().filter(|(name, _)| name.contains(&options.only)) {
        let rounds: Vec<Round> = (0..options.rounds).map(|_| measure(&device, calls, &options)).collect();
        table.add_row(row(name, &rounds));
    }
    println!("{table}");
    println!("\nRecords confirmed by a gateway per second, alone and beside readers of everything:\n");
    let alone = device.settled_per_second(&[], options.connections);
    let beside = device.settled_per_second(CALLS.last().map_or(&[], |(_, calls)| calls), options.connections);
    println!("{alone:.0} and {beside:.0}: {:.2}", beside / alone);
}

/// One round: without readers, and with them.
struct Round {
    alone: Times,
    beside: Times,
    answers_per_second: f64,
    /// The duration of an admin's call while readers run.
    pause: Duration,
}

/// How long it took to acknowledge a record.
struct Times {
    median: Duration,
    p95: Duration,
}

fn measure(device: &Device, calls: &'static [&'static str], options: &Options) -> Round {
    let alone = post(&mut Caller::connect(&device.socket()), options.posts);
    let readers = Readers::start(device, calls, options.connections);
    let mut poster = Caller::connect(&device.socket());
    let clock = Clock::start();
    let before = readers.answers();
    let beside = post(&mut poster, options.posts);
    let answers_per_second = (readers.answers() - before) as f64 / clock.now().as_secs_f64();
    let clock = Clock::start();
    poster.call("POST /v1/pause", b"");
    let pause = clock.now();
    readers.stop();
    Round { alone, beside, answers_per_second, pause }
}

fn post(poster: &mut Caller, posts: usize) -> Times {
    let mut times: Vec<Duration> = (0..posts)
        .map(|number| {
            let record = format!(r#"{{"type":"Visits","payload":{{"number":{number}}}}}"#);
            let clock = Clock::start();
            poster.call("POST /v1/records", record.as_bytes());
            clock.now()
        })
        .collect();
    times.sort();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    Times { median: at(50), p95: at(95) }
}

/// Callers on all connections except two, each on a thread of its own.
struct Readers {
    ends: &'static AtomicBool,
    answers: &'static AtomicU64,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Readers {
    fn start(device: &Device, calls: &'static [&'static str], connections: usize) -> Self {
        // Few, and needed until the end of the program.
        let ends: &'static AtomicBool = Box::leak(Box::default());
        let answers: &'static AtomicU64 = Box::leak(Box::default());
        let begun: &'static AtomicBool = Box::leak(Box::default());
        let readers = connections.saturating_sub(2);
        let threads = (0..readers)
            .map(|reader| {
                let mut caller = Caller::connect(&device.socket());
                thread::spawn(move || {
                    for call in calls.iter().cycle().skip(reader % calls.len()) {
                        let continues = || {
                            begun.store(true, Ordering::Relaxed);
                            !ends.load(Ordering::Relaxed)
                        };
                        if caller.call_while(call, continues) {
                            answers.fetch_add(1, Ordering::Relaxed);
                        } else {
                            return;
                        }
                    }
                })
            })
            .collect();
        while !begun.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        Self { ends, answers, threads }
    }

    fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    fn stop(self) {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a reader ends");
        }
    }
}

fn row(name: &str, rounds: &[Round]) -> Vec<String> {
    let ms = |time: f64| format!("{:.2} ms", time * 1e3);
    let of = |value: &dyn Fn(&Round) -> f64| median(rounds.iter().map(value).collect());
    let seconds = |time: Duration| time.as_secs_f64();
    vec![
        name.to_owned(),
        format!("{:.0}", of(&|round| round.answers_per_second)),
        ms(of(&|round| seconds(round.alone.median))),
        ms(of(&|round| seconds(round.beside.median))),
        format!("**{:.1}**", of(&|round| seconds(round.beside.median) / seconds(round.alone.median))),
        ms(of(&|round| seconds(round.alone.p95))),
        ms(of(&|round| seconds(round.beside.p95))),
        format!("**{:.1}**", of(&|round| seconds(round.beside.p95) / seconds(round.alone.p95))),
        ms(of(&|round| seconds(round.pause))),
    ]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
