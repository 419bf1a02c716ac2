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
fn what_is_not_synced_is_listed_first_and_the_newest_before_the_others() {
    let server = ScriptedServer::start(Reply::correct);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let synced = daemon.enqueue_many(150);
    daemon.wait_until_done();
    daemon.post("/v1/pause", "").expect_json(200);
    let record = |key: &str| json!({"type": "Visits", "key": key, "payload": {}});
    let waiting = daemon.enqueue(&[record("a"), record("b")]);
    let urgent = daemon.enqueue(&[json!({"type": "Visits", "priority": 9, "payload": {}})]);
    let listed = |arguments: &[&str]| {
        let ran = daemon.cli(&[&["list", "-q"], arguments].concat());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let newest = [&urgent[0], &waiting[1], &waiting[0]];
    let last_synced = synced.iter().rev();
    assert_eq!(
        listed(&[]).iter().collect::<Vec<_>>(),
        newest.into_iter().chain(last_synced.clone().take(20)).collect::<Vec<_>>()
    );
    assert_eq!(listed(&["--all"]).len(), 153);
    assert_eq!(listed(&["-n", "2"]).len(), 4, "two that wait, two that are synced");
    assert_eq!(listed(&["--key", "b"]), waiting[1..]);
    assert_eq!(listed(&["--since", "1h", "--state", "PENDING"]).len(), 3);
    assert_eq!(listed(&["--state", "PENDING,SYNCED", "-n", "500"]).len(), 153);
    assert_eq!(listed(&["--state", "FAILED"]), Vec::<String>::new());
}

#[test]
fn a_unique_beginning_or_end_of_an_id_is_enough() {
    let server = rejecting();
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let ids = ["0191b3a0-0000-7000-8000-00001111aaaa", "0191b3a0-0000-7000-8000-00002222bbbb"];
    daemon.enqueue(&ids.map(|id| json!({"id": id, "type": "T", "payload": {}})));
    daemon.wait_until_done();
    let shown = daemon.cli(&["show", "2222bbbb"]);
    assert!(shown.code == Some(0) && shown.stdout.contains(ids[1]), "{shown:?}");
    let shown = daemon.cli(&["show", "0191b3a0-0000-7000-8000-00001"]);
    assert!(shown.code == Some(0) && shown.stdout.contains(ids[0]), "{shown:?}");
    let ambiguous = daemon.cli(&["show", "0191b3a0"]);
    assert_eq!(ambiguous.code, Some(1), "{ambiguous:?}");
    assert!(ids.iter().all(|id| ambiguous.stderr.contains(id)), "{ambiguous:?}");
    assert_eq!(daemon.cli(&["show", "3333cccc"]).code, Some(4));
    assert_eq!(daemon.cli(&["show", "bbb"]).code, Some(2));
    let discarded = daemon.cli(&["quarantine", "discard", "1111aaaa"]);
    assert_eq!((discarded.code, discarded.stdout), (Some(0), format!("1 record discarded: {}.\n", ids[0])));
    assert_eq!(daemon.counts().quarantined, 1);
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
