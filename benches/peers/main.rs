//! Compares the daemon with what people would use instead: syslog-ng, rsyslog, and an outbox in SQLite.
//!
//! Every contestant gets the same records and sends them to the same server, one after the other, in scenes in which
//! the server, the link or the client fails. Each is as durable as its documentation offers. What a record went through
//! is counted at the server, and what a program used by the kernel. `benches/README.md` explains scenes and columns.
#![allow(clippy::expect_used, reason = "without a working setup there is nothing to measure")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod bare_loop;
mod contestant;
mod fieldsync;
mod hand_over;
mod http_client;
mod ledger;
mod link;
mod outbox;
mod record;
mod replies;
mod report;
mod rsyslog;
mod run;
mod scene;
mod server;
mod syslog_ng;
mod usage;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use crate::bare_loop::{BareLoop, BareLoopProcess};
use crate::contestant::Contestant;
use crate::fieldsync::Fieldsync;
use crate::outbox::{Outbox, OutboxProcess};
use crate::report::Row;
use crate::rsyslog::Rsyslog;
use crate::scene::{Scene, SceneName};
use crate::syslog_ng::SyslogNg;

/// Compares the daemon with its peers; prints Markdown.
#[derive(Parser)]
#[command(name = "peers")]
struct Options {
    #[command(subcommand)]
    child: Option<ChildProcess>,
    /// Rounds, in each of which every contestant runs once
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Records, a list
    #[arg(long, value_delimiter = ',', value_parser = record::parse_count, default_value = "10k,100k")]
    records: Vec<usize>,
    /// Scenes, a list [default: all]
    #[arg(long, value_delimiter = ',')]
    scenes: Vec<SceneName>,
    /// Contestants beside fieldsync, a list [default: all]
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Producers that hand records over at the same time
    #[arg(long, default_value_t = 4)]
    producers: usize,
    /// Records that a producer hands over at once; the default is that of `fieldsync enqueue`
    #[arg(long, default_value_t = 500)]
    bulk: usize,
    /// Records in a batch of the peers, which do not find a size themselves
    #[arg(long, default_value_t = 50)]
    batch: usize,
    /// limit: a size that is set by hand, for further runs of the peers
    #[arg(long, default_value_t = 25)]
    fitting_batch: usize,
    /// limit: the server's time for each record
    #[arg(long, default_value = "10ms", value_parser = humantime::parse_duration)]
    record_cost: Duration,
    /// limit: most records, because each takes its time
    #[arg(long, value_parser = record::parse_count, default_value = "2k")]
    limit_records: usize,
    /// Longest time of a scene
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    time_limit: Duration,
    /// A client is stuck if nothing new arrived for this long
    #[arg(long, default_value = "15s", value_parser = humantime::parse_duration)]
    stall_limit: Duration,
    /// Directory for the files, on a real disk
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    /// Most records in a batch of fieldsync, and those of the bare loop; the default is that of fieldsync
    #[arg(long, default_value_t = 1000)]
    max_batch: usize,
    /// distant: the time of a round trip
    #[arg(long, default_value = "200ms", value_parser = humantime::parse_duration)]
    round_trip: Duration,
    /// Another build of the daemon
    #[arg(long, default_value = env!("CARGO_BIN_EXE_fieldsyncd"))]
    fieldsyncd: PathBuf,
    /// Another build of syslog-ng
    #[arg(long, default_value = "syslog-ng")]
    syslog_ng: PathBuf,
    /// The directory of its modules
    #[arg(long)]
    syslog_ng_modules: Option<PathBuf>,
    /// Parallel requests of syslog-ng; its default is 1
    #[arg(long, default_value_t = 1)]
    syslog_ng_workers: usize,
    /// Another build of rsyslog
    #[arg(long, default_value = "rsyslogd")]
    rsyslogd: PathBuf,
    /// The directory of its modules, omhttp.so among them
    #[arg(long)]
    rsyslog_modules: Option<PathBuf>,
    /// Set by `cargo bench`, but not by `cargo test --all-targets`
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum ChildProcess {
    /// Runs as an outbox that is measured or killed
    #[command(hide = true)]
    Outbox(OutboxProcess),
    /// Runs as a bare loop
    #[command(hide = true)]
    BareLoop(BareLoopProcess),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Peer {
    /// fieldsync with `batch.max_in_flight = 1`
    Serial,
    /// backlog: posts from memory, and a log that is synced once a batch
    BareLoop,
    /// An outbox in SQLite
    Outbox,
    /// syslog-ng with a reliable disk buffer
    SyslogNg,
    /// rsyslog with a disk queue
    Rsyslog,
}

fn main() {
    let mut options = Options::parse();
    match options.child.take() {
        Some(ChildProcess::Outbox(outbox)) => return outbox.run(),
        Some(ChildProcess::BareLoop(bare_loop)) => return bare_loop.run(),
        None => {}
    }
    if !options.bench {
        println!("nothing is measured here: cargo bench --bench peers");
        return;
    }
    require_real_disk(&options);
    let scenes = if options.scenes.is_empty() { SceneName::value_variants() } else { &options.scenes };
    print_obstacles(&options);
    for name in scenes {
        let mut measured = Vec::new();
        for records in &options.records {
            let scene = Scene::new(*name, *records, &options);
            if !measured.contains(&scene.records) {
                measured.push(scene.records);
                measure_scene(&scene, &options);
            }
        }
    }
}

fn measure_scene(scene: &Scene, options: &Options) {
    let contestants: Vec<Box<dyn Contestant>> = contestants(scene.name, options)
        .into_iter()
        .filter(|contestant| contestant.find_obstacle().is_none())
        .collect();
    let mut rows: Vec<Row> = contestants
        .iter()
        .map(|contestant| Row {
            name: contestant.name(),
            is_synced: contestant.is_synced(),
            rounds: Vec::new(),
        })
        .collect();
    for round in 1..=options.rounds {
        for (contestant, row) in contestants.iter().zip(&mut rows) {
            eprintln!("{}, {} records, round {round}: {}", scene.title, scene.records, row.name);
            row.rounds.push(run::measure(contestant.as_ref(), scene, options));
        }
    }
    report::print_scene(scene, &rows);
}

fn print_obstacles(options: &Options) {
    for contestant in contestants(SceneName::Kill, options) {
        if let Some(obstacle) = contestant.find_obstacle() {
            println!("Not measured: {}: {obstacle}.", contestant.name());
        }
    }
}

/// fieldsync is the first, because the others are compared to it.
fn contestants(scene: SceneName, options: &Options) -> Vec<Box<dyn Contestant>> {
    let fieldsync = |max_in_flight| Fieldsync {
        program: options.fieldsyncd.clone(),
        max_batch: options.max_batch,
        max_in_flight,
    };
    let mut contestants: Vec<Box<dyn Contestant>> = vec![Box::new(fieldsync(None))];
    let sizes = match scene {
        SceneName::Limit => vec![options.batch, options.fitting_batch],
        _ => vec![options.batch],
    };
    // A synced record takes rsyslog milliseconds: elsewhere, no scene would begin before the time is over.
    let sync_modes: &[bool] = if scene == SceneName::Healthy { &[true, false] } else { &[false] };
    let peers = if options.peers.is_empty() { Peer::value_variants() } else { &options.peers };
    if peers.contains(&Peer::Serial) {
        contestants.push(Box::new(fieldsync(Some(1))));
    }
    if peers.contains(&Peer::BareLoop) && scene == SceneName::Backlog {
        contestants.push(Box::new(BareLoop { batch: options.max_batch }));
    }
    for peer in peers {
        for batch in &sizes {
            match peer {
                Peer::Serial | Peer::BareLoop => {}
                Peer::Outbox => contestants.push(Box::new(Outbox { batch: *batch })),
                Peer::SyslogNg => contestants.push(Box::new(SyslogNg {
                    program: options.syslog_ng.clone(),
                    modules: options.syslog_ng_modules.clone(),
                    batch: *batch,
                    workers: options.syslog_ng_workers,
                })),
                Peer::Rsyslog => contestants.extend(sync_modes.iter().map(|is_synced| {
                    let rsyslog = Rsyslog {
                        program: options.rsyslogd.clone(),
                        modules: options.rsyslog_modules.clone(),
                        batch: *batch,
                        is_synced: *is_synced,
                    };
                    Box::new(rsyslog) as Box<dyn Contestant>
                })),
            }
        }
    }
    contestants
}

/// In memory a sync costs nothing, and all ratios would differ.
fn require_real_disk(options: &Options) {
    let dir = &options.dir;
    std::fs::create_dir_all(dir).expect("the directory can be made");
    if statfs(dir).expect("the file system tells what it is").filesystem_type() == TMPFS_MAGIC {
        eprintln!("{} is in memory: name a directory on a disk with --dir", dir.display());
        std::process::exit(2);
    }
}
