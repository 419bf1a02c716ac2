//! Makes the stores of the upgrade tests with the daemon of another version: see `tests/fixtures/README.md`.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use redb::{Database, TableDefinition};
use serde_json::{Value, json};

use super::{NEWER, Record, StoreContent, fixtures, unpack};
use crate::support::daemon::{Daemon, Home};
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::user::{User, can_play, open_to_all};
use crate::support::wait::wait_for;

/// The smallest size of the file.
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

/// A user other than root.
const MEMBER: u32 = 54_323;

/// Enqueues records as the other user, each with its id.
fn enqueue_by_member(daemon: &Daemon, mut records: Vec<Value>) -> Vec<(String, Value)> {
    open_to_all(daemon);
    for record in &mut records {
        record["id"] = uuid::Uuid::now_v7().to_string().into();
    }
    let ran = User::without_groups(MEMBER).call(daemon, &["enqueue"], &json!(records).to_string());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    records.into_iter().map(|record| (record["id"].as_str().unwrap().to_owned(), record)).collect()
}

/// Writes a record of every state, and kills the daemon in the middle of a batch.
fn write(program: &str, home: Home) -> (Home, StoreContent) {
    let server = ScriptedServer::start(by_type);
    configure(&home, &server.url());
    let daemon = start(home, program);
    let mut records = Vec::new();
    let mut enqueue = |daemon: &Daemon, submitter: u32, some: Vec<Value>| {
        let some = match submitter {
            0 => daemon.enqueue(&some).into_iter().zip(some).collect(),
            _ => enqueue_by_member(daemon, some),
        };
        records.extend(some.into_iter().map(|(id, record)| (id, submitter, record)));
    };
    enqueue(&daemon, 0, vec![visit("good", None, 5), visit("good", Some("a"), 5), visit("good", None, 9)]);
    enqueue(&daemon, 0, vec![visit("bad", Some("held"), 5), visit("bad", None, 5), visit("early", None, 5)]);
    let theirs =
        [visit("good", Some("a"), 5), visit("bad", Some("theirs"), 5), visit("early", Some("late"), 5)];
    enqueue(&daemon, MEMBER, theirs.into());
    daemon.wait_until("the first responses", |status| {
        let counts = &status["records"];
        counts["synced"] == 4 && counts["quarantined"] == 3 && counts["failed"] == 2
    });
    // Measurements are written at the latest when the daemon stops.
    let (status, home) = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{}", home.log());
    let daemon = start(home, program);
    server.set_script(|request| if request.is_batch() { Reply::Hang } else { Reply::unknown_batch() });
    enqueue(&daemon, 0, vec![visit("good", Some("b"), 5), visit("good", None, 5), visit("good", None, 5)]);
    let status = daemon.wait_until("all three to be under way", |status| status["records"]["syncing"] == 3);
    let in_flight = status["sync"]["batch"]["id"].as_str().unwrap().to_owned();
    let came = || server.batches().iter().any(|batch| batch.batch_id() == in_flight).then_some(());
    wait_for("the batch", came);
    // A blocked record, the next record, and one larger than a page of the store.
    enqueue(&daemon, 0, vec![visit("good", Some("held"), 5), visit("good", None, 9)]);
    // Blocked by a record of their own user, or only by one of the other user.
    for (submitter, keys) in [(MEMBER, ["held", "theirs", "late"]), (0, ["theirs", "late", "held"])] {
        enqueue(&daemon, submitter, keys.map(|key| visit("good", Some(key), 5)).into());
    }
    let large =
        json!({"type": "Photos", "priority": 0, "payload": {"is": "good", "bytes": "x".repeat(6000)}});
    enqueue(&daemon, 0, vec![large]);
    daemon.post("/v1/pause", "").expect_json(200);
    let device = daemon.status()["device_id"].as_str().unwrap().to_owned();
    let record = |(id, submitter, record): (String, u32, Value)| {
        let entry = daemon.record(&id);
        let state = entry["state"].as_str().unwrap().to_owned();
        let (attempts, key) = (entry["attempts"].as_u64().unwrap(), entry["key"].clone());
        let priority = entry["priority"].as_u64().unwrap();
        Record { id, state, attempts, submitter, key, priority, payload: record["payload"].clone() }
    };
    let left = StoreContent { device, in_flight, records: records.into_iter().map(record).collect() };
    (daemon.kill9(), left)
}

#[test]
#[ignore = "writes into tests/fixtures, and needs FIELDSYNC_OTHER_DAEMON and FIELDSYNC_FIXTURE"]
fn a_store_by_another_version() {
    assert!(can_play(), "some of the records are another user's");
    let of = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let (program, name) = (of("FIELDSYNC_OTHER_DAEMON"), of("FIELDSYNC_FIXTURE"));
    let (home, left) = write(&program, Home::new(&Settings::default()));
    pack(&home.path("state/queue.redb"), &name);
    write_json(&fixtures().join(format!("{name}.json")), &left);
}

fn pack(store: &Path, name: &str) {
    let packed = File::create(fixtures().join(format!("{name}.redb.zst"))).unwrap();
    zstd::stream::copy_encode(File::open(store).unwrap(), packed, LEVEL).unwrap();
}

fn write_json(path: &Path, left: &StoreContent) {
    fs::write(path, serde_json::to_string_pretty(left).unwrap() + "\n").unwrap();
}

#[test]
#[ignore = "writes into tests/fixtures, and needs FIELDSYNC_NEWER, the number of the next version"]
fn a_store_that_stands_for_every_version_to_come() {
    let number: u8 = std::env::var("FIELDSYNC_NEWER").unwrap().parse().unwrap();
    let home = Home::new(&Settings::default());
    let store = unpack(NEWER, &home);
    let database = Database::open(&store).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta = TableDefinition::<&str, &[u8]>::new("meta");
    transaction.open_table(meta).unwrap().insert("schema", &[1, number][..]).unwrap();
    transaction.commit().unwrap();
    database.close().unwrap();
    pack(&store, NEWER);
}
