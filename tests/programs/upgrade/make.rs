//! Makes the stores of the upgrade tests with the daemon of another version: see `tests/fixtures/README.md`.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{Left, Record, fixtures};
use crate::support::daemon::{Daemon, Home};
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

/// As small as the file gets.
const LEVEL: i32 = 19;

fn by_type(request: &Request) -> Reply {
    if !request.is_batch() {
        return Reply::unknown_batch();
    }
    let records = request.records();
    let result = |id: &str| {
        let record = records.iter().find(|record| record["id"] == id)?;
        Some(match record["payload"]["is"].as_str()? {
            "bad" => json!({"status": "rejected", "code": "BAD_DATE", "message": "no such day"}),
            "early" => json!({"status": "retry"}),
            _ => json!({"status": "applied"}),
        })
    };
    Reply::results(request.batch_id(), &request.ids(), result)
}

/// Keys that every version knows.
fn configure(home: &Home, url: &str) {
    let text = format!(
        "[server]\nurl = {url:?}\nrequest_timeout = \"1h\"\ncompression = \"none\"\n\
         [queue]\nstate_dir = \"{}\"\n[ipc]\nsocket = \"{}\"\n[retry]\ninitial_backoff = \"1h\"\nmax_backoff = \"1h\"\n\
         [batch]\nlearn = false\n[log]\ntarget = \"stderr\"\nlevel = \"info\"\n",
        home.path("state").display(),
        home.socket().display()
    );
    fs::write(home.path("config.toml"), text).unwrap();
}

fn start(home: Home, program: &str) -> Daemon {
    let log = File::options().create(true).append(true).open(home.path("log")).unwrap();
    let mut command = Command::new(program);
    command.arg("--config").arg(home.path("config.toml")).stdin(Stdio::null()).stderr(log);
    home.start_by(command)
}

fn visit(is: &str, key: Option<&str>, priority: u64) -> Value {
    let mut record = json!({"type": "Visits", "priority": priority, "payload": {"is": is}});
    if let Some(key) = key {
        record["key"] = key.into();
    }
    record
}

/// Has a record of every state written, and kills the daemon in the middle of a batch.
fn write(program: &str, home: Home) -> (Home, Left) {
    let server = ScriptedServer::start(by_type);
    configure(&home, &server.url());
    let daemon = start(home, program);
    let mut records = Vec::new();
    let mut enqueue = |daemon: &Daemon, some: Vec<Value>| {
        records.extend(daemon.enqueue(&some).into_iter().zip(some));
    };
    enqueue(&daemon, vec![visit("good", None, 5), visit("good", Some("a"), 5), visit("good", None, 9)]);
    enqueue(&daemon, vec![visit("bad", Some("held"), 5), visit("bad", None, 5), visit("early", None, 5)]);
    daemon.wait_until("the first answers", |status| {
        let counts = &status["records"];
        counts["synced"] == 3 && counts["quarantined"] == 2 && counts["failed"] == 1
    });
    // What was measured is written at the end of a life, at the latest.
    let (status, home) = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{}", home.log());
    let daemon = start(home, program);
    server.now(|request| if request.is_batch() { Reply::Hang } else { Reply::unknown_batch() });
    enqueue(&daemon, vec![visit("good", Some("b"), 5), visit("good", None, 5), visit("good", None, 5)]);
    let status = daemon.wait_until("all three to be under way", |status| status["records"]["syncing"] == 3);
    let in_flight = status["sync"]["batch"]["id"].as_str().unwrap().to_owned();
    let came = || server.batches().iter().any(|batch| batch.batch_id() == in_flight).then_some(());
    wait_for("the batch", came);
    // Held back, first in line, larger than a page of the store.
    enqueue(&daemon, vec![visit("good", Some("held"), 5), visit("good", None, 9)]);
    let large =
        json!({"type": "Photos", "priority": 0, "payload": {"is": "good", "bytes": "x".repeat(6000)}});
    enqueue(&daemon, vec![large]);
    daemon.post("/v1/pause", "").good(200);
    let device = daemon.status()["device_id"].as_str().unwrap().to_owned();
    let record = |(id, record): (String, Value)| {
        let entry = daemon.record(&id);
        let state = entry["state"].as_str().unwrap().to_owned();
        let (attempts, key) = (entry["attempts"].as_u64().unwrap(), entry["key"].clone());
        let priority = entry["priority"].as_u64().unwrap();
        Record { id, state, attempts, key, priority, payload: record["payload"].clone() }
    };
    let left = Left { device, in_flight, records: records.into_iter().map(record).collect() };
    (daemon.kill9(), left)
}

#[test]
#[ignore = "writes into tests/fixtures, and needs FIELDSYNC_OTHER_DAEMON and FIELDSYNC_FIXTURE"]
fn a_store_by_another_version() {
    let of = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let (program, name) = (of("FIELDSYNC_OTHER_DAEMON"), of("FIELDSYNC_FIXTURE"));
    let (home, left) = write(&program, Home::new(&Settings::default()));
    let packed = fixtures().join(format!("{name}.redb.zst"));
    let (store, into) = (File::open(home.path("state/queue.redb")).unwrap(), File::create(&packed).unwrap());
    zstd::stream::copy_encode(store, into, LEVEL).unwrap();
    write_json(&fixtures().join(format!("{name}.json")), &left);
}

fn write_json(path: &Path, left: &Left) {
    fs::write(path, serde_json::to_string_pretty(left).unwrap() + "\n").unwrap();
}
