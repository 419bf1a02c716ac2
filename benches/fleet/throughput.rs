//! How many batches a gateway settles, with both ledgers, and how that compares.

use std::path::Path;
use std::slice;

use comfy_table::{Table, presets};

use crate::aims::Aims;
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

/// Most connections, to one connection.
const GROUP_COMMIT_RATIO_MIN: f64 = 3.0;
/// A gateway without its writes, to the bare handler.
const HANDLER_RATIO_MIN: f64 = 0.6;
/// A gateway with PostgreSQL, to the script.
const SCRIPT_RATIO_MIN: f64 = 0.5;
/// Two gateways, to one.
const TWO_GATEWAYS_RATIO_MIN: f64 = 1.0;
/// The same where the database has the processors for itself.
const UNCONTENDED_RATIO_MIN: f64 = 1.3;

/// A way to process batches, with its phases in each round.
struct Row {
    name: &'static str,
    gateways: usize,
    connections: usize,
    reference: Option<Reference>,
    phases: Vec<Phase>,
}

/// The row to which another is compared.
#[derive(Clone, Copy)]
struct Reference {
    row: usize,
    /// The ratio that is required.
    aim: Option<f64>,
}

impl Row {
    fn new(name: &'static str, gateways: usize, connections: usize) -> Self {
        Self { name, gateways, connections, reference: None, phases: Vec::new() }
    }

    fn compare_to(self, row: usize, aim: Option<f64>) -> Self {
        Self { reference: Some(Reference { row, aim }), ..self }
    }

    /// The ratio to another row in each round.
    fn ratios_to(&self, other: &Self) -> Vec<f64> {
        self.phases.iter().zip(&other.phases).map(|(phase, other)| phase.rate() / other.rate()).collect()
    }

    /// The other row, as the table names it.
    fn name_reference(&self, reference: &Self) -> String {
        match reference.gateways {
            0 => reference.name.to_owned(),
            _ if reference.name != self.name => reference.name.to_owned(),
            1 if self.gateways == 2 => "one gateway".to_owned(),
            _ => format!("{} connection(s)", reference.connections),
        }
    }
}

pub(crate) fn print_throughput(options: &Options, aims: &mut Aims) {
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
            require_ratio(row, rows, aims);
            table.add_row(cells(row, rows));
        }
    }
    println!("{table}");
}

fn require_ratio(row: &Row, rows: &[Row], aims: &mut Aims) {
    let Some(Reference { row: number, aim: Some(aim) }) = row.reference else { return };
    let (name, reference) = (row.name, row.name_reference(&rows[number]));
    let name =
        format!("{name}, {} gateway(s), {} connections: ratio to {reference}", row.gateways, row.connections);
    aims.require_at_least(name, aim, median(row.ratios_to(&rows[number])));
}

/// One gateway with a file, at each number of connections.
fn measure_redb(options: &Options) -> Vec<Row> {
    let dir = options.directory();
    let gateway = start_gateway(options, &file_in(dir.path()));
    let processes = Processes { gateways: vec![gateway.pid()], database: None };
    let mut rows: Vec<Row> = (0..)
        .zip(&options.connections)
        .map(|(number, connections)| {
            let is_most = *connections == options.most_connections();
            let aim = is_most.then_some(GROUP_COMMIT_RATIO_MIN);
            let row = Row::new("redb", 1, *connections);
            if number > 0 { row.compare_to(0, aim) } else { row }
        })
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
        Row::new("bare handler", 1, connections),
        Row::new("known batches", 1, connections).compare_to(0, Some(HANDLER_RATIO_MIN)),
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

/// The script, then one and two gateways with the same number of connections in all, and one that prepares its statements.
fn measure_postgres(options: &Options) -> Vec<Row> {
    let postgres = Postgres::start(&options.dir, options.database_cpus.as_deref());
    let script = Script::new(postgres.create_database("script"), options.script_sessions);
    let store = postgres.create_database("fleet");
    let gateways = [(); 2].map(|()| start_gateway(options, &store));
    let prepared = start_gateway(options, &format!("{store}?prepared_statements=true"));
    let connections = options.most_connections();
    let two_gateways = match options.gateway_share {
        Some(_) => UNCONTENDED_RATIO_MIN,
        None => TWO_GATEWAYS_RATIO_MIN,
    };
    let mut rows = vec![
        Row::new("script", 0, script.sessions),
        Row::new("PostgreSQL", 1, connections).compare_to(0, Some(SCRIPT_RATIO_MIN)),
        Row::new("PostgreSQL", 2, connections).compare_to(1, Some(two_gateways)),
        Row::new("PostgreSQL, prepared", 1, connections).compare_to(0, Some(SCRIPT_RATIO_MIN)),
    ];
    let used = [&gateways[..0], &gateways[..1], &gateways[..], slice::from_ref(&prepared)];
    for round in 1..=options.rounds {
        for (row, used) in rows.iter_mut().zip(used) {
            eprintln!("round {round}: {}, {} gateways", row.name, row.gateways);
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
    let reference = row.reference.map(|reference| &rows[reference.row]);
    let ratios = |reference: &Row| ratio_text(&row.ratios_to(reference));
    let to = reference.map_or_else(String::new, |reference| row.name_reference(reference));
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
