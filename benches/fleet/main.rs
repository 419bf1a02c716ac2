//! Loads built gateways with a fleet of devices, over a few hundred connections and with the real wire: how many batches
//! they settle with both ledgers, what happens when all devices come at once, and what a kill under load costs.
//!
//! Ratios compare within one run. `benches/README.md` explains tables and columns.
#![allow(clippy::expect_used, clippy::panic, reason = "without a working setup there is nothing to measure")]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]

mod aims;
mod bare_handler;
mod cpu_share;
mod figures;
mod gateway;
mod generator;
mod kill;
mod load;
mod open_files;
mod postgres;
mod script;
mod storm;
mod throughput;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use tempfile::TempDir;

use aims::Aims;
use bare_handler::BareHandlerProcess;
use gateway::GatewaySetup;
use generator::{BatchShape, FleetPlan, Topology};

/// Loads gateways with a fleet of devices; prints Markdown.
#[derive(Parser)]
#[command(name = "fleet")]
struct Options {
    #[command(subcommand)]
    child: Option<ChildProcess>,
    /// Tables, a list [default: all]
    #[arg(long, value_delimiter = ',')]
    table: Vec<TableName>,
    /// Ledgers, a list
    #[arg(long, value_delimiter = ',', default_value = "redb,postgres")]
    ledgers: Vec<LedgerKind>,
    /// Devices of the fleet
    #[arg(long, default_value_t = 10_000)]
    devices: usize,
    /// throughput: connections that the devices share, a list; the first is the reference
    #[arg(long, value_delimiter = ',', default_value = "1,64")]
    connections: Vec<usize>,
    /// Records in a batch
    #[arg(long, default_value_t = 25)]
    records: usize,
    /// Size of a record in the body
    #[arg(long, default_value_t = 600)]
    record_bytes: usize,
    /// throughput: rounds, in each of which every row is measured once
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of a steady load
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// throughput: most devices that repeat a batch
    #[arg(long, default_value_t = 1000)]
    known_batches: usize,
    /// throughput: sessions of the script
    #[arg(long, default_value_t = 8)]
    script_sessions: usize,
    /// storm: connections that the devices share [default: one for each device, if so many files may be open]
    #[arg(long)]
    storm_connections: Option<usize>,
    /// storm: how long a device keeps its own connection open after the last response, as the daemon does
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    idle_time: Duration,
    /// storm: batches that wait on each device
    #[arg(long, default_value_t = 1)]
    storm_batches: usize,
    /// kill: devices
    #[arg(long, default_value_t = 1000)]
    kill_devices: usize,
    /// kill: batches of each device
    #[arg(long, default_value_t = 5)]
    kill_batches: usize,
    /// kill: how often
    #[arg(long, default_value_t = 4)]
    kills: usize,
    /// How long a device waits for a response
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    time_limit: Duration,
    /// Directory of the ledgers, on a real disk; PostgreSQL's user must be able to enter it
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    /// Another build of the gateway
    #[arg(long, default_value_os_t = gateway_program())]
    gateway: PathBuf,
    /// A further argument of the gateways, may be repeated
    #[arg(long, allow_hyphen_values = true)]
    gateway_argument: Vec<String>,
    /// Processors of the gateways and of the bare handler, as `taskset` takes them [default: all]
    #[arg(long)]
    gateway_cpus: Option<String>,
    /// Percent of one processor that each gateway may use; needs root
    #[arg(long)]
    gateway_share: Option<u32>,
    /// Processors of PostgreSQL
    #[arg(long)]
    database_cpus: Option<String>,
    /// Set by `cargo bench`, but not by `cargo test --all-targets`
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum ChildProcess {
    /// Runs as the bare handler
    #[command(hide = true)]
    BareHandler(BareHandlerProcess),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TableName {
    /// Batches per second and latencies, with ratios
    Throughput,
    /// All devices at once
    Storm,
    /// `kill -9` of a gateway and of PostgreSQL
    Kill,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LedgerKind {
    Redb,
    Postgres,
}

impl Options {
    /// A fleet that shares so many connections.
    fn plan(&self, gateways: Vec<SocketAddr>, connections: usize) -> FleetPlan {
        let topology = Topology::Shared(connections);
        let (devices, shape, time_limit) = (self.devices, self.shape(), self.time_limit);
        FleetPlan { gateways, topology, devices, shape, time_limit, copies_batches: false }
    }

    fn shape(&self) -> BatchShape {
        BatchShape { records: self.records, record_bytes: self.record_bytes }
    }

    fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    fn most_connections(&self) -> usize {
        self.connections.iter().copied().max().unwrap_or(1)
    }

    fn gateway_setup(&self, store: &str) -> GatewaySetup {
        let setup = GatewaySetup::new(&self.gateway, store, &self.gateway_argument);
        GatewaySetup { cpus: self.gateway_cpus.clone(), share: self.gateway_share, ..setup }
    }

    fn directory(&self) -> TempDir {
        tempfile::tempdir_in(&self.dir).expect("a directory")
    }

    fn measures_postgres(&self) -> bool {
        self.ledgers.contains(&LedgerKind::Postgres) && postgres::is_installed()
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(ChildProcess::BareHandler(handler)) = &options.child {
        handler.run();
        return ExitCode::SUCCESS;
    }
    if !options.bench {
        println!("nothing is measured here: cargo bench --bench fleet");
        return ExitCode::SUCCESS;
    }
    require_real_disk(&options.dir);
    if options.ledgers.contains(&LedgerKind::Postgres) && !postgres::is_installed() {
        println!("Not measured: PostgreSQL: no server is installed.");
    }
    let tables = if options.table.is_empty() { TableName::value_variants() } else { &options.table };
    open_files::raise_limit();
    let mut aims = Aims::default();
    for table in tables {
        match table {
            TableName::Throughput => throughput::print_throughput(&options, &mut aims),
            TableName::Storm => storm::print_storms(&options, &mut aims),
            TableName::Kill => kill::print_kills(&options, &mut aims),
        }
    }
    aims.print();
    let missed = aims.missed();
    if missed.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("missed: {}", missed.join("; "));
    ExitCode::FAILURE
}

/// In memory a sync costs nothing, and all ratios would differ.
fn require_real_disk(dir: &Path) {
    std::fs::create_dir_all(dir).expect("the directory can be made");
    if statfs(dir).expect("the file system tells what it is").filesystem_type() == TMPFS_MAGIC {
        eprintln!("{} is in memory: name a directory on a disk with --dir", dir.display());
        std::process::exit(2);
    }
}

/// It is in the directory of this package's programs: `cargo build --release -p fieldsync-gateway`.
fn gateway_program() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_fieldsync")).with_file_name("fieldsync-gateway")
}
