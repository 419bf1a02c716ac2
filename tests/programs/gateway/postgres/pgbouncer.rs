//! The promises of the gateway hold behind a pooler that runs each transaction in any session.

use std::env;
use std::process::Command;
use std::thread;

use crate::support::device::Batch;
use crate::support::gateway::Gateway;
use crate::support::postgres::{LEDGERS_VARIABLE, POOLER_VARIABLE, Postgres};

use super::suite::run_promises;

/// Tests of several gateways that share a ledger.
const SHARED_LEDGERS: [&str; 5] = [
    "gateway::postgres::conformance::",
    "gateway::postgres::destination::",
    "gateway::postgres::forwarding::",
    "gateway::postgres::migration::",
    "gateway::postgres::shared::",
];

#[test]
#[ignore = "needs PostgreSQL and pgbouncer"]
fn gateways_share_a_ledger_behind_a_pooler() {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(SHARED_LEDGERS).arg("--ignored");
    let ran = command.env(POOLER_VARIABLE, "1").env_remove(LEDGERS_VARIABLE).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}");
    for test in [
        "conformance::every_point_holds_for_two_gateways_behind_a_load_balancer",
        "shared::the_same_batch_at_three_gateways_at_once_is_settled_once",
    ] {
        assert!(said.contains(&format!("{test} ... ok")), "{said}");
    }
}

#[test]
#[ignore = "needs PostgreSQL and pgbouncer"]
fn the_tests_of_the_file_ledger_pass_with_a_database_behind_a_pooler() {
    run_promises(&Postgres::start_behind_pooler());
}

#[test]
#[ignore = "needs PostgreSQL and pgbouncer"]
fn a_pooler_without_a_free_session_delays_batches_and_loses_none() {
    const SENDERS: usize = 12;
    let postgres = Postgres::start_behind_pooler();
    let store = postgres.create("sync");
    let gateways = [(); 2].map(|()| Gateway::start_on(&store, &[]));
    thread::scope(|scope| {
        for sender in 0..SENDERS {
            let gateway = &gateways[sender % gateways.len()];
            scope.spawn(move || {
                for _ in 0..20 {
                    gateway.post(&Batch::of(&["{}", "{}"])).batch();
                }
            });
        }
    });
    assert_eq!(gateways[0].applied_ids().len(), SENDERS * 20 * 2);
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'sync' AND pid <> pg_backend_pid()";
    let sessions: u32 = postgres.query("sync", sessions).parse().unwrap();
    assert!((1..=3).contains(&sessions), "{sessions} sessions");
}
