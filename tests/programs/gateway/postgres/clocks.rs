//! What decides on deletion, and on when a record is due, is the time of the database, whatever the clocks of gateways show.

use std::sync::atomic::{AtomicBool, Ordering};

use fieldsync::clock::wall_ms;
use serde_json::json;

use crate::gateway::receiver::Taken;
use crate::support::device::Batch;
use crate::support::gateway::Gateway;
use crate::support::postgres::Postgres;
use crate::support::server::ScriptedServer;
use crate::support::wait::wait_for;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// Longer than records and responses are kept.
const DAYS_BEHIND: u64 = 1000;

/// In this database, the functions of the system that return the time return one that is days behind that of gateways.
fn set_clock_behind(postgres: &Postgres, database: &str) {
    let shifted =
        ["statement_timestamp", "clock_timestamp", "transaction_timestamp", "now"].map(|function| {
            format!(
                "CREATE FUNCTION shifted.{function}() RETURNS timestamptz LANGUAGE sql AS
                'SELECT pg_catalog.{function}() - interval ''{DAYS_BEHIND} days''';"
            )
        });
    postgres.query(database, &format!("CREATE SCHEMA shifted; {}", shifted.concat()));
    let path = "SET search_path = shifted, pg_catalog, public";
    postgres.query("postgres", &format!("ALTER DATABASE {database} {path}"));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_gateway_whose_clock_is_ahead_of_the_database_deletes_nothing_early() {
    let postgres = Postgres::start();
    let store = postgres.create("sync");
    set_clock_behind(&postgres, "sync");
    let gateway = Gateway::start_on(&store, &[]);
    let batch = Batch::of(&["{}", "{}"]);
    gateway.post(&batch).batch();
    let times =
        "SELECT applied_at_ms FROM fieldsync.records UNION SELECT answered_at_ms FROM fieldsync.responses";
    for time in postgres.query("sync", times).lines() {
        assert!(time.parse::<u64>().unwrap() < wall_ms() - (DAYS_BEHIND - 1) * DAY_MS, "{time}");
    }
    drop(gateway);
    // Rows that are old by any clock show that the gateway has searched for old rows.
    postgres.query(
        "sync",
        "INSERT INTO fieldsync.records (id, seq, digest, device_id, batch_id, type, applied_at_ms)
             SELECT gen_random_uuid(), 0, digest, device_id, batch_id, type, 1 FROM fieldsync.records LIMIT 1;
         INSERT INTO fieldsync.responses (device_id, batch_id, fingerprint, answered_at_ms, answer)
             SELECT gen_random_uuid(), batch_id, fingerprint, 1, answer FROM fieldsync.responses",
    );
    let gateway = Gateway::start_on(&store, &[]);
    for (table, column) in [("records", "applied_at_ms"), ("responses", "answered_at_ms")] {
        let old = format!("SELECT count(*) FROM fieldsync.{table} WHERE {column} = 1");
        wait_for("the old row to be deleted", || (postgres.query("sync", &old) == "0").then_some(()));
    }
    assert_eq!(gateway.applied_ids(), batch.ids());
    assert!(gateway.post(&batch).batch().replayed);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_lane_is_due_by_the_clock_of_the_database() {
    let postgres = Postgres::start();
    let store = postgres.create("sync");
    set_clock_behind(&postgres, "sync");
    let is_first = AtomicBool::new(true);
    let server = ScriptedServer::start(move |request| {
        Taken::default().by_record(request, |_| {
            if is_first.swap(false, Ordering::Relaxed) {
                json!({"status": "retry"})
            } else {
                json!({"status": "applied"})
            }
        })
    });
    // A trigger keeps what the row of the lane had: it is deleted as soon as the record was sent again.
    let gateway = Gateway::start_on(&store, &["--forward", &server.url(), "--forward-max-wait", "20ms"]);
    postgres.query(
        "sync",
        "CREATE TABLE public.seen (due_at_ms bigint);
         CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO public.seen VALUES (NEW.due_at_ms); RETURN NEW; END';
         CREATE TRIGGER see BEFORE INSERT ON fieldsync.forward_lanes
             FOR EACH ROW EXECUTE FUNCTION public.see()",
    );
    gateway.post(&Batch::of(&["{}"])).batch();
    wait_for("the record to be sent again", || (server.requests().len() == 2).then_some(()));
    let seen: u64 = postgres.query("sync", "SELECT due_at_ms FROM public.seen").parse().unwrap();
    assert!(seen < wall_ms() - (DAYS_BEHIND - 1) * DAY_MS, "{seen}");
}
