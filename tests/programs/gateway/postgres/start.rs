//! How a gateway connects to its database, and when it refuses to start.

use std::fs;
use std::thread;

use rcgen::{CertifiedKey, generate_simple_self_signed};

use crate::support::device::Batch;
use crate::support::gateway::{ANY_PORT, Gateway, command, refuses};
use crate::support::postgres::{PASSWORD, Postgres};
use crate::support::process::run;
use crate::support::wait::directory;

const HOST: &str = "127.77.0.9";

#[test]
#[ignore = "needs PostgreSQL"]
fn gateways_that_start_together_create_one_ledger() {
    let postgres = Postgres::start();
    for round in 0..4 {
        let store = postgres.create(&format!("sync{round}"));
        let gateways: Vec<Gateway> = thread::scope(|scope| {
            let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| Gateway::start_on(&store, &[]))).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        for gateway in &gateways {
            gateway.post(&Batch::of(&["{}"])).batch();
        }
        assert_eq!(gateways[0].ledger().len(), gateways.len());
    }
}

#[test]
#[ignore = "needs PostgreSQL"]
fn an_unsuitable_database_is_rejected_with_the_reason() {
    let postgres = Postgres::start();
    let store = postgres.create("sync");
    drop(Gateway::start_on(&store, &[]));
    postgres.query("sync", "UPDATE fieldsync.meta SET value = 3 WHERE key = 'schema'");
    postgres.query("postgres", "CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0");
    postgres.query("postgres", "CREATE ROLE guest LOGIN PASSWORD 'guest'");
    postgres.create("others");
    let guest = postgres.url("others").replace(&format!("crm:{PASSWORD}"), "guest:guest");
    let cases = [
        (store.as_str(), "has schema 3; this program knows schema 2"),
        (&postgres.url("ascii"), "its encoding is SQL_ASCII, and must be UTF8"),
        (&postgres.url("nowhere"), "database \"nowhere\" does not exist"),
        (&postgres.url("sync").replace(PASSWORD, "wrong-s3cret"), "password authentication failed"),
        (&guest, "permission denied for database others"),
    ];
    for (store, message) in cases {
        let (code, said) = refuses(store, &[]);
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains(message), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_database_that_is_away_at_the_start_is_a_temporary_error() {
    let mut postgres = Postgres::start();
    let store = postgres.create("sync");
    postgres.crash();
    let (code, said) = refuses(&store, &[]);
    assert_eq!(code, Some(74), "{said}");
    assert!(said.contains("cannot be reached") && !said.contains(PASSWORD), "{said}");
    assert!(said.contains("127.77.0.9"), "{said}");
}

#[test]
#[ignore = "needs PostgreSQL"]
fn the_password_may_come_from_the_environment_and_is_never_logged() {
    let postgres = Postgres::start();
    let store = postgres.create("sync");
    // The scheme may be in any case, and text with a password is never treated as a path.
    drop(Gateway::start_on(&store.replacen("postgres", "PostgreSQL", 1), &[]));
    let bare = store.replace(&format!(":{PASSWORD}"), "");
    assert_eq!(refuses(&bare, &[]).0, Some(78));
    let directory = directory();
    let log = directory.path().join("log");
    let mut with_variable = command(&bare, ANY_PORT, &[]);
    with_variable.env("PGPASSWORD", PASSWORD);
    Gateway::start_by(with_variable).post(&Batch::of(&["{}"])).batch();
    let gateway = Gateway::start_logging(&store, &log, &[]);
    gateway.signal("TERM");
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("gateway ready") && log.contains(HOST), "{log}");
    // The databases of the tests have such URLs, too.
    assert!(log.contains("told not to wait for its disk"), "{log}");
    assert!(!log.contains(PASSWORD), "{log}");
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_url_with_sslrootcert_never_connects_without_tls() {
    let postgres = Postgres::start();
    let store = postgres.create("sync");
    let directory = directory();
    let roots = directory.path().join("ca.pem");
    let issued = generate_simple_self_signed([HOST.to_owned()]).unwrap();
    fs::write(&roots, issued.cert.pem()).unwrap();
    let (code, said) = refuses(&format!("{store}?sslrootcert={}", roots.display()), &[]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("TLS") && !said.contains(PASSWORD), "{said}");
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_role_that_may_not_create_a_schema_uses_an_existing_one() {
    let postgres = Postgres::start();
    let store = postgres.create("sync");
    postgres.query("postgres", "CREATE ROLE guest LOGIN PASSWORD 'guest'");
    postgres.query("sync", "CREATE SCHEMA fieldsync AUTHORIZATION guest");
    let guest = store.replace(&format!("crm:{PASSWORD}"), "guest:guest");
    Gateway::start_on(&guest, &[]).post(&Batch::of(&["{}"])).batch();
}

#[test]
#[ignore = "needs PostgreSQL"]
fn commits_are_synchronous_even_if_the_database_default_is_not() {
    let postgres = Postgres::start();
    let store = postgres.create("sync");
    postgres.query("postgres", "ALTER ROLE crm SET synchronous_commit = off");
    let gateway = Gateway::start_on(&store, &[]);
    postgres.query(
        "sync",
        "CREATE TABLE seen (setting text);
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO seen VALUES (current_setting(''synchronous_commit'')); RETURN NEW; END';
         CREATE TRIGGER see BEFORE INSERT ON fieldsync.responses FOR EACH ROW EXECUTE FUNCTION see()",
    );
    gateway.post(&Batch::of(&["{}"])).batch();
    assert_eq!(postgres.query("sync", "SELECT setting FROM seen"), "on");
}

#[test]
#[ignore = "needs PostgreSQL"]
fn over_tls_the_server_is_verified_as_the_url_says() {
    let mut postgres = Postgres::start();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([HOST.to_owned()]).unwrap();
    let stranger = generate_simple_self_signed([HOST.to_owned()]).unwrap();
    postgres.write_private("server.pem", &cert.pem());
    postgres.write_private("server.key", &signing_key.serialize_pem());
    let directory = directory();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("ca.pem"), cert.pem()).unwrap();
    fs::write(path("other.pem"), stranger.cert.pem()).unwrap();
    let file = |name: &str| postgres.path(name).display().to_string();
    let settings = format!(
        "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'",
        file("server.pem"),
        file("server.key")
    );
    postgres.configure(&settings);
    postgres.write_private("data/pg_hba.conf", "hostssl all all all scram-sha-256\n");
    postgres.crash();
    postgres.start_again();
    let store = postgres.create("sync");

    for (parameters, is_accepted) in [
        ("", true),
        ("?sslmode=require", true),
        ("?sslmode=disable", false),
        (&format!("?sslmode=verify-full&sslrootcert={}", path("ca.pem")), true),
        (&format!("?sslmode=verify-full&sslrootcert={}", path("other.pem")), false),
        (&format!("?sslmode=require&sslrootcert={}", path("other.pem")), false),
        ("?sslmode=verify-full", false),
    ] {
        let store = format!("{store}{parameters}");
        if is_accepted {
            Gateway::start_on(&store, &[]).post(&Batch::of(&["{}"])).batch();
        } else {
            let ran = run(&mut command(&store, ANY_PORT, &[]), b"");
            assert!(matches!(ran.code, Some(74 | 78)), "{parameters}: {ran:?}");
            assert!(!ran.stderr.contains(PASSWORD), "{}", ran.stderr);
        }
    }
    let sql = "SELECT count(*) FROM fieldsync.records";
    assert_eq!(postgres.query("sync", sql), "3");
}
