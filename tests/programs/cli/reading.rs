//! Reading what the daemon has: lists, exports, and the choice of the socket.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::rejecting;
use crate::support::daemon::Daemon;
use crate::support::process::run;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;

fn ids(listed: &str) -> Vec<String> {
    let page: Value = serde_json::from_str(listed).unwrap();
    let records = page["records"].as_array().unwrap().iter();
    records.map(|record| record["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_list_is_filtered_by_state_and_type_up_to_a_limit() {
    let server = rejecting();
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let reviewed = daemon.enqueue_many(2);
    daemon.wait_until_done();
    daemon.post("/v1/pause", "").expect_json(200);
    let record = |name: &str| json!({"type": name, "payload": {}});
    let waiting = daemon.enqueue(&[record("Notes"), record("Visits"), record("Notes")]);
    for (filter, expected) in [
        (&["--state", "QUARANTINED"][..], vec![&reviewed[0], &reviewed[1]]),
        (&["--type", "Notes"], vec![&waiting[0], &waiting[2]]),
        (&["--type", "Visits", "--state", "PENDING"], vec![&waiting[1]]),
        (&["--state", "PENDING", "--limit", "2"], vec![&waiting[0], &waiting[1]]),
        (&["--state", "SYNCED"], vec![]),
    ] {
        let ran = daemon.cli(&[&["list", "--json"], filter].concat());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(ids(&ran.stdout).iter().collect::<Vec<_>>(), expected, "{filter:?}");
    }
}

#[test]
fn exports_have_one_record_a_line_in_a_file_or_on_standard_output() {
    let server = rejecting();
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let ids = daemon.enqueue(&[json!({"type": "T", "payload": {"text": "one"}})]);
    daemon.wait_until_done();
    let (whole, review) = (daemon.home.path("manifest.ndjson"), daemon.home.path("review.ndjson"));
    for (verb, file) in [("manifest", &whole), ("quarantine", &review)] {
        let output = daemon.cli(&[verb, "export", file.to_str().unwrap()]);
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
        let printed = daemon.cli(&[verb, "export"]);
        assert_eq!((printed.code, printed.stdout), (Some(0), fs::read_to_string(file).unwrap()));
    }
    let line = |file| serde_json::from_str::<Value>(&fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(line(&whole), daemon.record(&ids[0]));
    let reviewed = line(&review);
    assert_eq!((&reviewed["id"], &reviewed["payload"]), (&json!(ids[0]), &json!({"text": "one"})));
}

#[test]
fn the_command_sync_ends_a_wait() {
    let server = ScriptedServer::at_first(1, |_| Reply::error(503, "BUSY").with("retry-after", "600"));
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.enqueue_many(2);
    daemon.wait_for_phase("waiting");
    assert_eq!(daemon.cli(&["sync"]).code, Some(0));
    daemon.wait_until_done();
}

#[test]
fn the_socket_comes_from_the_option_else_a_variable_else_the_default() {
    let daemon = Daemon::start(&Settings::default());
    let (socket, home) = (daemon.home.socket(), daemon.home.path(""));
    let status = |arguments: &[&str], variable: &str, value: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fieldsync"));
        command.env_remove("FIELDSYNC_SOCKET").env(variable, value);
        run(command.args(arguments), b"").code
    };
    let socket = socket.to_str().unwrap();
    let nowhere = "/nowhere/fieldsync.sock";
    for option in [&["--socket", socket, "status"][..], &["status", "--socket", socket]] {
        assert_eq!(status(option, "FIELDSYNC_SOCKET", nowhere), Some(0));
    }
    assert_eq!(status(&["status"], "FIELDSYNC_SOCKET", socket), Some(0));
    assert_eq!(status(&["status"], "FIELDSYNC_SOCKET", nowhere), Some(3));
    assert_eq!(status(&["status"], "RUNTIME_DIRECTORY", home.to_str().unwrap()), Some(0));
    assert_eq!(status(&["status"], "RUNTIME_DIRECTORY", "/nowhere"), Some(3));
}
