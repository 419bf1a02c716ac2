//! The storm after an outage: all devices send at once. The gateway refuses what it cannot answer soon, and spreads the
//! devices by `Retry-After`.
//!
//! Ideally, the gateway would work without a pause at the speed that it has under a steady load. That is measured before
//! and after, and with the storm's connections, because a ledger settles more batches the more of them arrive at once; the
//! highest counts. No device should wait more than twice the time that all batches would then take.

use std::time::Duration;

use comfy_table::{Table, presets};

use crate::aims::Aims;
use crate::figures::{mib, milliseconds, quantile};
use crate::gateway::{ANY_PORT, RunningGateway};
use crate::generator::{Counts, Fleet, FleetPlan, LedgerCheck, Topology, run_fleet};
use crate::load::{Processes, Work, run_load};
use crate::open_files::count_connections;
use crate::postgres::Postgres;
use crate::throughput::file_in;
use crate::{LedgerKind, Options};

const HEAD: [&str; 17] = [
    "ledger",
    "gateways",
    "connections",
    "batches",
    "batches/s, steady",
    "ideal",
    "longest wait",
    "ratio",
    "median wait",
    "requests per batch",
    "429",
    "503",
    "Retry-After",
    "unclear",
    "not sent",
    "lost, twice, unconfirmed",
    "peak MiB",
];

/// Where the devices share connections: the number of the steady load that counts for the ideal beside the usual one, and
/// of the storm if there cannot be a connection for each device.
const SHARED_CONNECTIONS: usize = 512;
/// The longest wait, to the ideal.
const WAIT_RATIO_MAX: f64 = 2.0;
const GATEWAY_MEMORY_MIB_MAX: f64 = 64.0;

/// What a storm showed.
struct Storm {
    topology: Topology,
    ideal: Duration,
    /// Before, after, and with the storm's connections.
    steady_rates: [f64; 3],
    /// Until each batch was confirmed, sorted.
    waits: Vec<Duration>,
    counts: Counts,
    check: LedgerCheck,
    gateway_memory_kib: u64,
}

impl Storm {
    fn longest_wait(&self) -> Duration {
        self.waits.last().copied().unwrap_or_default()
    }

    fn wait_ratio(&self) -> f64 {
        self.longest_wait().as_secs_f64() / self.ideal.as_secs_f64()
    }

    fn require_aims(&self, ledger: &str, gateways: usize, aims: &mut Aims) {
        let name = |figure: &str| format!("storm, {ledger}, {gateways} gateway(s): {figure}");
        aims.require_at_most(name("longest wait to the ideal"), WAIT_RATIO_MAX, self.wait_ratio());
        let wrong = self.check.lost + self.check.twice + self.check.unconfirmed;
        aims.require_at_most(name("records lost, applied twice or unconfirmed"), 0.0, wrong as f64);
        let memory_mib = self.gateway_memory_kib as f64 / 1024.0;
        aims.require_at_most(name("peak MiB of a gateway"), GATEWAY_MEMORY_MIB_MAX, memory_mib);
    }
}

pub(crate) fn print_storms(options: &Options, aims: &mut Aims) {
    println!("\n#### The storm: {} devices at once\n", options.devices);
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(HEAD);
    if options.ledgers.contains(&LedgerKind::Redb) {
        eprintln!("storm: redb");
        let dir = options.directory();
        let gateway = RunningGateway::start(&options.gateway_setup(&file_in(dir.path())), ANY_PORT);
        let storm = measure_storm(&[gateway], options);
        storm.require_aims("redb", 1, aims);
        table.add_row(cells("redb", 1, &storm));
    }
    if options.measures_postgres() {
        let postgres = Postgres::start(&options.dir, options.database_cpus.as_deref());
        for count in 1..=2 {
            eprintln!("storm: PostgreSQL, {count} gateways");
            let setup = options.gateway_setup(&postgres.create_database(&format!("storm_{count}")));
            let gateways: Vec<_> = (0..count).map(|_| RunningGateway::start(&setup, ANY_PORT)).collect();
            let storm = measure_storm(&gateways, options);
            storm.require_aims("PostgreSQL", count, aims);
            table.add_row(cells("PostgreSQL", count, &storm));
        }
    }
    println!("{table}");
}

/// Each device has its own connection unless the options say otherwise, or too few files may be open.
fn choose_topology(options: &Options) -> Topology {
    if let Some(connections) = options.storm_connections {
        return Topology::Shared(connections);
    }
    let most = count_connections();
    if most < options.devices {
        eprintln!("only {most} connections may be open: the devices share {SHARED_CONNECTIONS}");
        return Topology::Shared(SHARED_CONNECTIONS);
    }
    Topology::PerDevice { idle_time: options.idle_time }
}

fn measure_storm(gateways: &[RunningGateway], options: &Options) -> Storm {
    let addresses: Vec<_> = gateways.iter().map(|gateway| gateway.address).collect();
    let pids = gateways.iter().map(RunningGateway::pid).collect();
    let processes = Processes { gateways: pids, database: None };
    let plan = options.plan(addresses.clone(), options.most_connections());
    let topology = choose_topology(options);
    let load = |plan| run_load(plan, Work::New, options.time(), &processes);
    let (before, counts_before) = load(&plan);

    let fleet = Fleet::new(&FleetPlan { topology, ..plan.clone() });
    run_fleet(fleet.send_all(options.storm_batches));
    let counts = fleet.take_counts();
    // The listing of the ledger needs memory, too, but no device waits for it.
    let gateway_memory_kib = processes.gateway_memory_kib();

    let (after, counts_after) = load(&plan);
    // The last, because the gateway reserves turns for devices that it refused, and some of these never return.
    let connections = options.storm_connections.unwrap_or(SHARED_CONNECTIONS);
    let (crowded, counts_crowded) =
        load(&FleetPlan { devices: connections, topology: Topology::Shared(connections), ..plan.clone() });
    let steady_rates = [before.rate(), after.rate(), crowded.rate()];
    let highest_rate = steady_rates.into_iter().fold(0.0, f64::max);
    let ideal = Duration::from_secs_f64(counts.waits.len() as f64 / highest_rate);
    let fleets = [&counts_before, &counts, &counts_after, &counts_crowded];
    let check = run_fleet(LedgerCheck::run(addresses[0], &fleets));
    let mut waits = counts.waits.clone();
    waits.sort_unstable();
    Storm { topology, ideal, steady_rates, waits, counts, check, gateway_memory_kib }
}

fn cells(ledger: &str, gateways: usize, storm: &Storm) -> Vec<String> {
    let seconds = |time: Duration| format!("{:.1} s", milliseconds(time) / 1000.0);
    let connections = match storm.topology {
        Topology::Shared(connections) => connections.to_string(),
        Topology::PerDevice { idle_time } => format!("own, {} s idle", idle_time.as_secs()),
    };
    let retry_after = &storm.counts.retry_after;
    // Waits for which the gateway named no time are at 0.
    let named = || retry_after.range(1..);
    let ends = [named().next(), named().next_back()];
    let ends = ends.map(|end| end.map_or_else(|| "–".to_owned(), |(seconds, _)| seconds.to_string()));
    vec![
        ledger.to_owned(),
        gateways.to_string(),
        connections,
        storm.waits.len().to_string(),
        storm.steady_rates.map(|rate| format!("{rate:.0}")).join(", "),
        seconds(storm.ideal),
        seconds(storm.longest_wait()),
        format!("**{:.2}**", storm.wait_ratio()),
        seconds(quantile(&storm.waits, 0.5)),
        format!("{:.2}", storm.counts.requests() as f64 / storm.waits.len().max(1) as f64),
        storm.counts.status(429).to_string(),
        storm.counts.status(503).to_string(),
        format!("{}–{} s", ends[0], ends[1]),
        storm.counts.unclear_requests().to_string(),
        storm.counts.not_sent.to_string(),
        format!("**{}, {}, {}**", storm.check.lost, storm.check.twice, storm.check.unconfirmed),
        mib(storm.gateway_memory_kib),
    ]
}
