//! All promises of the gateway, with the PostgreSQL ledger.

use std::env;
use std::process::Command;

use crate::support::postgres::{LEDGERS_VARIABLE, Postgres};

/// Tests whose result depends neither on the kind of ledger nor on its speed.
const PROMISES: [&str; 3] = ["gateway::", "crash::", "delivery::"];
/// These are about the file, or start a gateway with the configuration that is shown, which lacks the password.
const ABOUT_THE_FILE: [&str; 2] = [
    "gateway::process::a_second_gateway_on_the_same_store_fails_to_start",
    "gateway::configuration::options_win_over_the_file_and_the_file_over_defaults",
];

/// These need a lease or a claim that ends with the process, or a session that is there at once.
const ABOUT_TIME: [&str; 4] = [
    "gateway::process::a_crash_during_processing_leaves_nothing_half_applied_and_a_resend_applies_once",
    "gateway::destination::responses::a_batch_that_takes_too_long_is_answered_504_and_its_outcome_is_found",
    "gateway::destination::crashes::what_",
    "gateway::destination::responses::what_another_batch_is_handing_over_is_tried_again_later",
];

#[test]
#[ignore = "needs PostgreSQL"]
fn the_tests_of_the_file_ledger_pass_with_a_database() {
    run_promises(&Postgres::start());
}

/// Runs the tests of the promises with ledgers on this server.
#[track_caller]
pub(super) fn run_promises(postgres: &Postgres) {
    let mut command = Command::new(env::current_exe().unwrap());
    for skipped in ABOUT_THE_FILE.iter().chain(&ABOUT_TIME) {
        command.args(["--skip", *skipped]);
    }
    let ran = command.args(PROMISES).env(LEDGERS_VARIABLE, postgres.server_url()).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}\nthe database's log:\n{}", postgres.log_tail());
    assert!(said.contains("gateway::batches::a_batch_is_applied_once"), "{said}");
    let databases = "SELECT count(*) FROM pg_database WHERE datname LIKE 'test\\_%'";
    assert!(postgres.query("postgres", databases).parse::<u32>().unwrap() > 20, "{said}");
}
