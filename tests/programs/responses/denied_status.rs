//! A set that is denied while other records are synced: what users see of it, and how they resolve it.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::daemon::{Counts, Daemon, Home, leave_surroundings};
use crate::support::process::run;
use crate::support::secrets::place;
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

fn is_bad(request: &Request) -> bool {
    request.is_batch() && request.text().contains("\"bad\"")
}

const LONGEST: &str = "10m";

fn server() -> ScriptedServer {
    ScriptedServer::start(|request| if is_bad(request) { Reply::html(403) } else { Reply::correct(request) })
}

/// One faulty record that is never quarantined: it is denied at ever longer intervals, while others are synced.
fn denied_alone() -> (ScriptedServer, Daemon, String) {
    let server = server();
    let home = Home::new(&Settings::default());
    let token = home.path("token");
    place(&token, "sesame\n", 0o600);
    home.configure(
        &Settings::for_server(&server.url())
            .with("server.token_file", token.to_str().unwrap())
            .with("retry.quarantine_after", "100")
            .with("retry.max_backoff", LONGEST),
    );
    let daemon = home.start();
    let mut ids = daemon.paused(|daemon| daemon.enqueue(&["good", "bad", "good", "good"].map(record)));
    (server, daemon, ids.remove(1))
}

fn record(text: &str) -> Value {
    json!({"type": "T", "payload": {"text": text}})
}

#[test]
fn a_status_names_the_set_that_is_denied_while_others_get_through() {
    let (_server, daemon, id) = denied_alone();
    // Right after a denial, the daemon does not know yet whether other records are still accepted.
    let status = daemon
        .wait_until("the denied set", |status| status["sync"]["denied"][0]["denials"].as_u64() >= Some(5));
    let sync = &status["sync"];
    assert_eq!(sync["denied"].as_array().unwrap().len(), 1);
    let set = &sync["denied"][0];
    assert_eq!((&set["records"], &set["error"]["http_status"]), (&json!(1), &json!(403)), "{set}");
    assert_eq!(
        (&set["error"]["class"], &set["batch_id"]),
        (&json!("unauthorized"), &daemon.record(&id)["batch_id"])
    );
    let text = sync["text"].as_str().unwrap();
    assert!(text.ends_with(" (1 record is refused with HTTP 403 while others get through)"), "{text}");
    assert_eq!((daemon.counts().synced, daemon.counts().quarantined), (3, 0));
}

#[test]
fn a_record_of_a_denied_set_is_shown_with_what_can_be_done() {
    let (_server, daemon, id) = denied_alone();
    let shown = wait_for("the record to be shown as denied", || {
        let shown = daemon.cli(&["show", &id]).stdout;
        shown.contains("refused again and again while others get through").then_some(shown)
    });
    for part in ["HTTP 403", &format!("fieldsync quarantine add {id}")] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn the_credential_is_not_blamed_for_a_set_that_is_denied_while_others_get_through() {
    let (_server, daemon, _id) = denied_alone();
    let report = wait_for("the denied set to be found", || {
        let mut doctor = Command::new(env!("CARGO_BIN_EXE_fieldsync"));
        doctor.args(["doctor", "--json", "--config"]).arg(daemon.home.path("config.toml"));
        leave_surroundings(&mut doctor);
        let report: Value = serde_json::from_str(&run(&mut doctor, b"").stdout).unwrap();
        report.to_string().contains("is refused (HTTP 403) while others are accepted").then_some(report)
    });
    let checks = report["checks"].as_array().unwrap();
    let problems: Vec<&Value> = checks.iter().filter(|check| check["result"] == "problem").collect();
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn removing_the_record_from_a_denied_set_ends_the_denial() {
    let (server, daemon, id) = denied_alone();
    daemon.wait_until("the denied set", |status| status["sync"]["denied"][0]["denials"].as_u64() >= Some(5));
    // What is being sent right now is refused.
    wait_for("the record to be under review", || {
        (daemon.cli(&["quarantine", "add", &id]).code == Some(0)).then_some(())
    });
    assert_eq!(daemon.wait_until_done(), Counts::settled(3, 1));
    assert_eq!(daemon.record(&id)["state"], "QUARANTINED");
    daemon.enqueue(&[record("good")]);
    assert_eq!(daemon.wait_until_done(), Counts::settled(4, 1));
    drop(server);
}
