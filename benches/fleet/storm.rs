//! The storm after an outage: all devices send at once. The gateway refuses what it cannot answer soon, and spreads the
//! devices by `Retry-After`.
//!
//! Ideally, the gateway would work without a pause at the speed that it has under a steady load, which is measured before
//! and after; the higher one counts. No device should wait more than twice the time that all batches would then take.

use std::time::Duration;

use comfy_table::{Table, presets};

use crate::figures::{mib, milliseconds, quantile};
use crate::gateway::{ANY_PORT, RunningGateway};
use crate::generator::{Counts, Fleet, FleetPlan, LedgerCheck, run_fleet};
use crate::load::{Processes, Work, run_load};
use crate::postgres::Postgres;
use crate::throughput::file_in;
use crate::{LedgerKind, Options};

const HEAD: [&str; 16] = [
    "ledger",
    "gateways",
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
    "lost, twice",
    "peak MiB",
];

/// What a storm showed.
struct Storm {
    ideal: Duration,
    /// Before and after.
    steady_rates: [f64; 2],
    /// Until each batch was confirmed, sorted.
    waits: Vec<Duration>,
    counts: Counts,
    check: LedgerCheck,
    gateway_memory_kib: u64,
}

pub(crate) fn print_storms(options: &Options) {
    println!("\n#### The storm: {} devices at once\n", options.devices);
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(HEAD);
    if options.ledgers.contains(&LedgerKind::Redb) {
        eprintln!("storm: redb");
        let dir = options.directory();
        let gateway = RunningGateway::start(&options.gateway_setup(&file_in(dir.path())), ANY_PORT);
        table.add_row(cells("redb", 1, &raise_storm(&[gateway], options)));
    }
    if options.measures_postgres() {
        let postgres = Postgres::start(&options.dir, options.database_cpus.as_deref());
        for count in 1..=2 {
            eprintln!("storm: PostgreSQL, {count} gateways");
            let setup = options.gateway_setup(&postgres.create_database(&format!("storm_{count}")));
            let gateways: Vec<_> = (0..count).map(|_| RunningGateway::start(&setup, ANY_PORT)).collect();
            table.add_row(cells("PostgreSQL", count, &raise_storm(&gateways, options)));
        }
    }
    println!("{table}");
}

fn raise_storm(gateways: &[RunningGateway], options: &Options) -> Storm {
    let addresses: Vec<_> = gateways.iter().map(|gateway| gateway.address).collect();
    let pids = gateways.iter().map(RunningGateway::pid).collect();
    let processes = Processes { gateways: pids, database: None };
    let plan = options.plan(addresses.clone(), options.most_connections());
    let load = || run_load(&plan, Work::New, options.time(), &processes);
    let (before, counts_before) = load();

    let fleet = Fleet::new(&FleetPlan { connections: options.storm_connections, ..plan.clone() });
    run_fleet(fleet.send_all(options.storm_batches));
    let counts = fleet.take_counts();
    // The listing of the ledger needs memory, too, but no device waits for it.
    let gateway_memory_kib = processes.gateway_memory_kib();

    let (after, counts_after) = load();
    let steady_rates = [before.rate(), after.rate()];
    let ideal = Duration::from_secs_f64(counts.waits.len() as f64 / steady_rates[0].max(steady_rates[1]));
    let check = run_fleet(LedgerCheck::run(addresses[0], &[&counts_before, &counts, &counts_after]));
    let mut waits = counts.waits.clone();
    waits.sort_unstable();
    Storm { ideal, steady_rates, waits, counts, check, gateway_memory_kib }
}

fn cells(ledger: &str, gateways: usize, storm: &Storm) -> Vec<String> {
    let seconds = |time: Duration| format!("{:.1} s", milliseconds(time) / 1000.0);
    let longest = storm.waits.last().copied().unwrap_or_default();
    let retry_after = &storm.counts.retry_after;
    let ends = [retry_after.first_key_value(), retry_after.last_key_value()];
    let named = ends.map(|end| end.map_or_else(|| "–".to_owned(), |(seconds, _)| seconds.to_string()));
    vec![
        ledger.to_owned(),
        gateways.to_string(),
        storm.waits.len().to_string(),
        format!("{:.0}, {:.0}", storm.steady_rates[0], storm.steady_rates[1]),
        seconds(storm.ideal),
        seconds(longest),
        format!("**{:.2}**", longest.as_secs_f64() / storm.ideal.as_secs_f64()),
        seconds(quantile(&storm.waits, 0.5)),
        format!("{:.2}", storm.counts.requests() as f64 / storm.waits.len().max(1) as f64),
        storm.counts.status(429).to_string(),
        storm.counts.status(503).to_string(),
        format!("{}–{} s", named[0], named[1]),
        storm.counts.unclear_requests().to_string(),
        storm.counts.not_sent.to_string(),
        format!("{}, {}", storm.check.lost + storm.check.unconfirmed, storm.check.twice),
        mib(storm.gateway_memory_kib),
    ]
}
