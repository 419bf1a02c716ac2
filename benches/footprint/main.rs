//! Measures what the device costs: the size of its programs and its package, and the memory, threads, wake-ups,
//! descriptors and start of an idle daemon.
//!
//! Sizes and counts have limits, in `limits.rs`; with `--check` the bench fails where one is exceeded. Memory and times
//! depend on the machine and are only printed. `benches/README.md` explains the rows.
#![allow(clippy::expect_used, reason = "without a working setup there is nothing to measure")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "../readers/caller.rs"]
#[allow(dead_code, reason = "the other bench also ends its calls early")]
mod caller;
mod daemon;
mod journal_socket;
mod limits;
mod package;
mod process;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;

use daemon::{Daemon, Place, start_and_fill};
use journal_socket::JournalSocket;
use limits::Figure;
use process::Process;
use report::Report;

/// Measures the footprint of the device; prints Markdown.
#[derive(Parser)]
#[command(name = "footprint")]
struct Options {
    /// Fails if a size or a count exceeds its limit
    #[arg(long)]
    check: bool,
    /// Records of the large queue; 0 skips it
    #[arg(long, default_value_t = 1_000_000)]
    records: usize,
    /// How long wake-ups are counted
    #[arg(long, default_value_t = 60)]
    idle_seconds: u64,
    /// Starts, of which the median is shown
    #[arg(long, default_value_t = 7)]
    starts: usize,
    /// The device's Debian package, as "packaging/build -p fieldsync" prints it
    package: Option<PathBuf>,
    /// Directory of the queue, on a real disk
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    /// Set by `cargo bench`, but not by `cargo test --all-targets`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if !options.bench {
        println!("nothing is measured here: cargo bench --bench footprint");
        return ExitCode::SUCCESS;
    }
    let Some(package) = &options.package else {
        eprintln!(
            "a package is missing: cargo bench --bench footprint -- \"$(packaging/build -p fieldsync)\""
        );
        return ExitCode::FAILURE;
    };
    let mut report = Report::default();
    let tree = tempfile::tempdir_in(&options.dir).expect("a directory");
    package::measure_package(package, tree.path(), &mut report);
    let programs = tree.path().join("usr/bin");

    let home = tempfile::tempdir_in(&options.dir).expect("a directory");
    measure_idle(&programs, home.path(), &options, &mut report);
    measure_starts(&programs, home.path(), options.starts, Figure::StartEmpty, &mut report);
    if options.records > 0 {
        let daemon = start_and_fill(&programs, home.path(), options.records);
        report.add(Figure::MemoryAfterFill, daemon.process().memory_kib());
        settle();
        report.add(Figure::MemoryLarge, daemon.process().memory_kib());
        drop(daemon);
        measure_starts(&programs, home.path(), options.starts, Figure::StartLarge, &mut report);
    }
    report.print();
    if options.check && report.exceeds_limits() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The daemon with an empty queue: with a link, without one, and with the journal.
fn measure_idle(programs: &Path, home: &Path, options: &Options, report: &mut Report) {
    let daemon = Daemon::start(programs, home, Place::WithLink, None);
    settle();
    let process = daemon.process();
    report.add(Figure::MemoryIdle, process.memory_kib());
    report.add(Figure::MemoryIdleOwn, process.own_memory_kib());
    report.add(Figure::Threads, process.threads());
    report.add(Figure::DescriptorsStderr, process.descriptors());
    report.add(Figure::WakeUpsWithLink, count_wake_ups(&process, options.idle_seconds));
    drop(daemon);

    let journal = JournalSocket::open(home);
    let daemon = Daemon::start(programs, home, Place::WithoutLink, Some(&journal));
    settle();
    let process = daemon.process();
    report.add(Figure::DescriptorsJournal, process.descriptors());
    report.add(Figure::WakeUpsWithoutLink, count_wake_ups(&process, options.idle_seconds));
}

/// Work left by the start: after a while, the store makes its idle commit.
fn settle() {
    thread::park_timeout(Duration::from_secs(8));
}

/// Per minute. It is not known if one of the two counts is not.
fn count_wake_ups(process: &Process, seconds: u64) -> Option<u64> {
    let before = process.wake_ups()?;
    thread::park_timeout(Duration::from_secs(seconds));
    Some((process.wake_ups()? - before) * 60 / seconds.max(1))
}

fn measure_starts(programs: &Path, home: &Path, starts: usize, figure: Figure, report: &mut Report) {
    let mut times: Vec<Duration> = (0..starts)
        .map(|_| Daemon::start(programs, home, Place::WithoutLink, None).time_to_ready())
        .collect();
    times.sort_unstable();
    let median = times.get(times.len() / 2).map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    report.add(figure, median);
}
