//! `kill -9` of a gateway and of PostgreSQL under load. Nothing that was confirmed may be lost, nothing may be applied
//! twice, and devices continue without help.

use std::time::Duration;

use comfy_table::{Table, presets};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::aims::Aims;
use crate::figures::median;
use crate::gateway::{ANY_PORT, GatewaySetup, RunningGateway};
use crate::generator::{Counts, Fleet, FleetPlan, LedgerCheck, run_fleet};
use crate::postgres::Postgres;
use crate::throughput::file_in;
use crate::{LedgerKind, Options};

const HEAD: [&str; 12] = [
    "ledger, gateways",
    "killed",
    "kills",
    "batches",
    "without a response",
    "not sent",
    "503",
    "outcome queries",
    "sent again",
    "next confirmed after (longest)",
    "records confirmed",
    "lost, twice, unconfirmed",
];

/// What is killed and started again.
#[derive(Clone, Copy)]
enum Victim {
    Gateway,
    Database,
}

/// The servers of a scenario.
struct Servers {
    gateways: Vec<RunningGateway>,
    setup: GatewaySetup,
    postgres: Option<Postgres>,
}

impl Servers {
    fn kill(mut self, victim: Victim) -> Self {
        match victim {
            Victim::Gateway => {
                let gateway = self.gateways.remove(0);
                self.gateways.push(gateway.kill_and_restart(&self.setup));
            }
            Victim::Database => self.postgres = self.postgres.map(Postgres::kill_and_restart),
        }
        self
    }
}

pub(crate) fn print_kills(options: &Options, aims: &mut Aims) {
    println!("\n#### kill -9 under load\n");
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(HEAD);
    if options.ledgers.contains(&LedgerKind::Redb) {
        eprintln!("kill: redb");
        let dir = options.directory();
        let setup = options.gateway_setup(&file_in(dir.path()));
        let gateways = vec![RunningGateway::start(&setup, ANY_PORT)];
        let servers = Servers { gateways, setup, postgres: None };
        table.add_row(run_scenario("redb, 1", "the gateway", Victim::Gateway, servers, options, aims));
    }
    if options.measures_postgres() {
        let victims = [("one gateway", Victim::Gateway), ("PostgreSQL", Victim::Database)];
        for (name, victim) in victims {
            eprintln!("kill: {name}");
            let postgres = Postgres::start(&options.dir, options.database_cpus.as_deref());
            let setup = options.gateway_setup(&postgres.create_database("fleet"));
            let gateways = (0..2).map(|_| RunningGateway::start(&setup, ANY_PORT)).collect();
            let servers = Servers { gateways, setup, postgres: Some(postgres) };
            table.add_row(run_scenario("PostgreSQL, 2", name, victim, servers, options, aims));
        }
    }
    println!("{table}");
}

fn run_scenario(
    ledger: &str,
    killed: &str,
    victim: Victim,
    mut servers: Servers,
    options: &Options,
    aims: &mut Aims,
) -> Vec<String> {
    let addresses = servers.gateways.iter().map(|gateway| gateway.address).collect();
    let plan = options.plan(addresses, options.most_connections());
    let plan = FleetPlan { devices: options.kill_devices, copies_batches: true, ..plan };
    let (fleet, batches) = (Fleet::new(&plan), plan.total_batches(options.kill_batches));
    let (recoveries, counts, check) = run_fleet(async move {
        let sending = fleet.send_all(options.kill_batches);
        let (mut settled, clock) = (fleet.watch_settled(), fleet.clock());
        let killing = async move {
            let mut recoveries = Vec::new();
            for kill in 1..=options.kills {
                let threshold = batches * kill / (options.kills + 1);
                wait_for_settled(&mut settled, threshold).await;
                let began = clock.now();
                // On another thread, so that the devices continue to send.
                let killed = spawn_blocking(move || servers.kill(victim)).await;
                servers = killed.expect("the servers start again");
                let count = *settled.borrow_and_update();
                wait_for_settled(&mut settled, count + 1).await;
                recoveries.push(clock.now().saturating_sub(began));
            }
            (servers, recoveries)
        };
        let ((), (servers, recoveries)) = tokio::join!(sending, killing);
        let counts = fleet.take_counts();
        let check = LedgerCheck::run(servers.gateways[0].address, &[&counts]).await;
        (recoveries, counts, check)
    });
    let wrong = check.lost + check.twice + check.unconfirmed;
    aims.require_at_most(
        format!("kill of {killed} ({ledger}): records lost, applied twice or unconfirmed"),
        0.0,
        wrong as f64,
    );
    cells(ledger, killed, &recoveries, &counts, check)
}

async fn wait_for_settled(settled: &mut watch::Receiver<usize>, count: usize) {
    settled.wait_for(|settled| *settled >= count).await.expect("the fleet outlives the wait");
}

fn cells(
    ledger: &str,
    killed: &str,
    recoveries: &[Duration],
    counts: &Counts,
    check: LedgerCheck,
) -> Vec<String> {
    let recoveries: Vec<f64> = recoveries.iter().map(Duration::as_secs_f64).collect();
    let longest = recoveries.iter().copied().fold(0.0, f64::max);
    let sent_again = counts.requests() - counts.settled.len();
    vec![
        ledger.to_owned(),
        killed.to_owned(),
        recoveries.len().to_string(),
        counts.settled.len().to_string(),
        counts.without_response.to_string(),
        counts.not_sent.to_string(),
        counts.status(503).to_string(),
        counts.queries.to_string(),
        sent_again.to_string(),
        format!("{:.2} s ({longest:.2} s)", median(recoveries)),
        check.confirmed.to_string(),
        format!("**{}, {}, {}**", check.lost, check.twice, check.unconfirmed),
    ]
}
