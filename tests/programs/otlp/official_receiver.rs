//! Pushes to a receiver that parses with the official definitions of OTLP, strictly. It needs Python, and installs its
//! packages in a temporary directory, unless `FIELDSYNC_OTLP_PYTHON` names an interpreter that has them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::sync_batches;
use crate::support::daemon::Daemon;
use crate::support::process::Guard;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::{DEADLINE, directory, wait_for};

const INTERPRETER_VARIABLE: &str = "FIELDSYNC_OTLP_PYTHON";

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/otlp").join(name)
}

/// An interpreter with the official definitions.
fn find_interpreter(environment: &TempDir) -> PathBuf {
    if let Some(named) = std::env::var_os(INTERPRETER_VARIABLE) {
        return named.into();
    }
    let run = |command: &mut Command| assert!(command.status().unwrap().success(), "{command:?}");
    run(Command::new("python3").args(["-m", "venv"]).arg(environment.path()));
    let python = environment.path().join("bin/python");
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--requirement"])
        .arg(source("requirements.txt")));
    python
}

/// A running receiver, and the lines that it prints.
struct OfficialReceiver {
    port: u64,
    lines: Receiver<Value>,
    _process: Guard,
}

impl OfficialReceiver {
    fn start(python: &Path) -> Self {
        let mut command = Command::new(python);
        let mut process = Guard(command.arg(source("receiver.py")).stdout(Stdio::piped()).spawn().unwrap());
        let output = BufReader::new(process.0.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in output.lines() {
                drop(sender.send(serde_json::from_str(&line.unwrap()).unwrap()));
            }
        });
        let first: Value = lines.recv_timeout(DEADLINE).unwrap();
        Self { port: first["port"].as_u64().unwrap(), lines, _process: process }
    }
}

#[test]
#[ignore = "it needs Python and installs packages"]
fn a_receiver_with_the_official_definitions_parses_all_pushes_strictly() {
    let environment = directory();
    let receiver = OfficialReceiver::start(&find_interpreter(&environment));
    let server = ScriptedServer::start(|request| {
        let rejects = request.is_batch() && request.text().contains("\"poison\"");
        let result = if rejects { json!({"status": "rejected"}) } else { json!({"status": "applied"}) };
        if request.is_batch() {
            Reply::results(request.batch_id(), &request.ids(), |_| Some(result.clone()))
        } else {
            Reply::unknown_batch()
        }
    });
    let url = format!("http://127.0.0.1:{}", receiver.port);
    let settings = Settings::for_server(&server.url())
        .with("telemetry.otlp_url", &url)
        .with("telemetry.otlp_interval", "1ms");
    let daemon = Daemon::start(&settings);
    daemon.enqueue(&[json!({"type": "Visits", "payload": {"poison": true}})]);
    daemon.wait_until("the alert", |status| status["alerts"][0]["alert"] == "needs_review");
    let mut last = BTreeMap::new();
    wait_for("metrics and alerts", || {
        sync_batches(&daemon, 1);
        for line in receiver.lines.try_iter() {
            assert_eq!(line["error"], Value::Null, "{line:#}");
            last.insert(line["path"].as_str().unwrap().to_owned(), line);
        }
        (last.len() == 2).then_some(())
    });
    let (metrics, logs) = (&last["/v1/metrics"], &last["/v1/logs"]);
    let status = daemon.status();
    for message in [metrics, logs] {
        assert_eq!(message["resource"]["service.name"], "fieldsync");
        assert_eq!(message["resource"]["service.instance.id"], status["device_id"]);
    }
    let items = metrics["items"].as_array().unwrap();
    assert!(items.len() >= 50, "{} families", items.len());
    let find = |name: &str| items.iter().find(|item| item["name"] == name).unwrap();
    assert_eq!(find("fieldsync_records_quarantined")["points"][0]["value"], 1);
    assert_eq!(find("fieldsync_records_quarantined")["temporality"], 2);
    assert_eq!(find("fieldsync_batch_duration_seconds")["unit"], "s");
    let alert = &logs["items"][0];
    assert_eq!(alert["attributes"]["fieldsync.alert.name"], "needs_review");
    assert_eq!((&alert["severity"], &alert["event"]), (&json!(13), &json!("fieldsync.alert.started")));
}
