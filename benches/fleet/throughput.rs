//! How many batches a gateway settles, with both ledgers, and how that compares.

use std::path::Path;

use comfy_table::{Table, presets};

use crate::figures::{median, mib, milliseconds, quantile, ratio_text};
use crate::gateway::{ANY_PORT, GatewaySetup, RunningGateway};
use crate::generator::FleetPlan;
use crate::load::{Phase, Processes, Work, run_load};
use crate::postgres::Postgres;
use crate::script::Script;
use crate::{LedgerKind, Options};

const HEAD: [&str; 11] = [
    "",
    "gateways",
    "connections",
    "batches/s",
    "ratio",
    "to",
    "p50",
    "p99",
    "refused",
    "peak MiB",
    "CPU ms per batch: gateways, database, generator",
];

/// A way to process batches, with its phases in each round.
struct Row {
    name: &'static str,
    gateways: usize,
    connections: usize,
    /// The row to which it is compared.
    reference: Option<usize>,
    phases: Vec<Phase>,
}

impl Row {
    fn new(name: &'static str, gateways: usize, connections: usize, reference: Option<usize>) -> Self {
        Self { name, gateways, connections, reference, phases: Vec::new() }
    }
}

pub(crate) fn print_throughput(options: &Options) {
    println!("\n#### Throughput\n");
    let mut sections = Vec::new();
    if options.ledgers.contains(&LedgerKind::Redb) {
        sections.push(measure_redb(options));
        sections.push(measure_without_ledger(options));
    }
    if options.measures_postgres() {
        sections.push(measure_postgres(options));
    }
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(HEAD);
    for rows in &sections {
        for row in rows {
            table.add_row(cells(row, rows));
        }
    }
    println!("{table}");
}

/// One gateway with a file, at each number of connections.
fn measure_redb(options: &Options) -> Vec<Row> {
    let dir = options.directory();
    let gateway = start_gateway(options, &file_in(dir.path()));
    let processes = Processes { gateways: vec![gateway.pid()], database: None };
    let mut rows: Vec<Row> = (0..)
        .zip(&options.connections)
        .map(|(number, connections)| Row::new("redb", 1, *connections, (number > 0).then_some(0)))
        .collect();
    for round in 1..=options.rounds {
        for row in &mut rows {
            eprintln!("round {round}: redb, {} connections", row.connections);
            let plan = options.plan(vec![gateway.address], row.connections);
            row.phases.push(run_load(&plan, Work::New, options.time(), &processes).0);
        }
    }
    rows
}

/// Everything but the ledger's transaction: batches that it knows are received, decoded, checked and compared, and their
/// response is read. The bare handler gets the same batches.
fn measure_without_ledger(options: &Options) -> Vec<Row> {
    let dir = options.directory();
    let gateway = start_gateway(options, &file_in(dir.path()));
    let program = std::env::current_exe().expect("Linux knows the program");
    let handler = [program.to_str().expect("the path is text"), "bare-handler"].map(str::to_owned).to_vec();
    let handler = GatewaySetup { command: handler, ..options.gateway_setup("") };
    let handler = RunningGateway::start(&handler, ANY_PORT);
    let connections = options.most_connections();
    let mut rows = vec![
        Row::new("bare handler", 1, connections, None),
        Row::new("known batches", 1, connections, Some(0)),
    ];
    for round in 1..=options.rounds {
        for (row, server) in rows.iter_mut().zip([&handler, &gateway]) {
            eprintln!("round {round}: {}", row.name);
            let devices = options.devices.min(options.known_batches);
            let plan = FleetPlan { devices, ..options.plan(vec![server.address], connections) };
            let processes = Processes { gateways: vec![server.pid()], database: None };
            row.phases.push(run_load(&plan, Work::Known, options.time(), &processes).0);
        }
    }
    rows
}

/// The script, then one and two gateways with the same number of connections in all.
fn measure_postgres(options: &Options) -> Vec<Row> {
    let postgres = Postgres::start(&options.dir, options.database_cpus.as_deref());
    let script = Script::new(postgres.create_database("script"), options.script_sessions);
    let store = postgres.create_database("fleet");
    let gateways = [(); 2].map(|()| start_gateway(options, &store));
    let connections = options.most_connections();
    let mut rows = vec![
        Row::new("script", 0, script.sessions, None),
        Row::new("PostgreSQL", 1, connections, Some(0)),
        Row::new("PostgreSQL", 2, connections, Some(1)),
    ];
    for round in 1..=options.rounds {
        for row in &mut rows {
            eprintln!("round {round}: {}, {} gateways", row.name, row.gateways);
            let used = &gateways[..row.gateways];
            let pids = used.iter().map(RunningGateway::pid).collect();
            let processes = Processes { gateways: pids, database: Some(postgres.pid()) };
            if used.is_empty() {
                let cpu = processes.cpu_times();
                let run = script.write_for(options.time(), options.shape());
                row.phases.push(Phase::new(run.latencies, run.time, processes.cpu_times() - cpu));
            } else {
                let addresses = used.iter().map(|gateway| gateway.address).collect();
                let plan = options.plan(addresses, connections);
                row.phases.push(run_load(&plan, Work::New, options.time(), &processes).0);
            }
        }
    }
    rows
}

fn start_gateway(options: &Options, store: &str) -> RunningGateway {
    RunningGateway::start(&options.gateway_setup(store), ANY_PORT)
}

/// The path of a new ledger.
pub(crate) fn file_in(dir: &Path) -> String {
    dir.join("ledger.redb").to_str().expect("the path is text").to_owned()
}

fn cells(row: &Row, rows: &[Row]) -> Vec<String> {
    let middle = |figure: &dyn Fn(&Phase) -> f64| median(row.phases.iter().map(figure).collect());
    let latency =
        |part: f64| format!("{:.1} ms", middle(&|phase| milliseconds(quantile(&phase.latencies, part))));
    let per_batch = |time: &dyn Fn(&Phase) -> std::time::Duration| {
        format!("{:.2}", middle(&|phase| milliseconds(time(phase)) / phase.batches.max(1) as f64))
    };
    let reference = row.reference.map(|number| &rows[number]);
    let ratios = |reference: &Row| {
        let pairs = row.phases.iter().zip(&reference.phases);
        ratio_text(&pairs.map(|(phase, other)| phase.rate() / other.rate()).collect::<Vec<_>>())
    };
    let to = reference.map_or_else(String::new, |reference| match reference.gateways {
        0 => reference.name.to_owned(),
        _ if reference.name != row.name => reference.name.to_owned(),
        1 if row.gateways == 2 => "one gateway".to_owned(),
        _ => format!("{} connection(s)", reference.connections),
    });
    let cpu = [
        per_batch(&|phase| phase.cpu.gateways),
        per_batch(&|phase| phase.cpu.database),
        per_batch(&|phase| phase.cpu.generator),
    ];
    vec![
        row.name.to_owned(),
        row.gateways.to_string(),
        row.connections.to_string(),
        format!("{:.0}", middle(&Phase::rate)),
        reference.map_or_else(String::new, ratios),
        to,
        latency(0.5),
        latency(0.99),
        format!("{:.0}", middle(&|phase| phase.refused as f64)),
        mib(row.phases.iter().map(|phase| phase.gateway_memory_kib).max().unwrap_or_default()),
        cpu.join(", "),
    ]
}
