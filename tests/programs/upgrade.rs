//! Stores of other versions: a store of an older version is migrated completely, and one of a newer version is not
//! changed. `tests/fixtures/README.md` explains how they were made.

mod make;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use redb::{Database, Key, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::process::Guard;
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;

/// One store for each version that may exist in the field, by the commit of its daemon.
const OLDER: [&str; 4] = ["8f3e237", "3fe1d04", OF_TWO_USERS, "4b2755b"];
/// A store of version 1 with records of two users.
const OF_TWO_USERS: &str = "d7d69aa";
const NEWER: &str = "newer";

/// The content of a store, as reported by the daemon that wrote it.
#[derive(Debug, Serialize, Deserialize)]
struct StoreContent {
    device: String,
    /// The batch that was in flight when that daemon was killed.
    in_flight: String,
    records: Vec<Record>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    id: String,
    state: String,
    attempts: u64,
    /// Root where no submitter is named.
    #[serde(default)]
    submitter: u32,
    key: Value,
    priority: u64,
    payload: Value,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn unpack(name: &str, home: &Home) -> PathBuf {
    let (state, packed) = (home.path("state"), fixtures().join(format!("{name}.redb.zst")));
    fs::create_dir(&state).unwrap();
    let store = state.join("queue.redb");
    zstd::stream::copy_decode(File::open(packed).unwrap(), File::create(&store).unwrap()).unwrap();
    store
}

fn read_store_content(name: &str) -> StoreContent {
    serde_json::from_str(&fs::read_to_string(fixtures().join(format!("{name}.json"))).unwrap()).unwrap()
}

/// Everything is unchanged, except for the batch that the previous daemon had in flight.
fn assert_migrated(daemon: &Daemon, left: &StoreContent) {
    let status = daemon.status();
    assert_eq!(status["device_id"], left.device.as_str());
    assert_eq!(status["sync"]["phase"], "paused", "a pause survives an upgrade");
    assert_eq!(
        status["alerts"].as_array().unwrap().iter().find(|alert| alert["alert"] == "store_damaged"),
        None
    );
    let manifest = daemon.get("/v1/manifest").text();
    assert_eq!(manifest.lines().count(), left.records.len());
    for record in &left.records {
        let entry = daemon.get(&format!("/v1/records/{}?payload=true", record.id)).expect_json(200);
        let (state, attempts) = (entry["state"].as_str().unwrap(), entry["attempts"].as_u64().unwrap());
        if record.state == "SYNCING" {
            assert_eq!(entry["batch_id"], left.in_flight.as_str(), "{entry}");
            assert_ne!(state, "SYNCED", "{entry}");
        } else {
            assert_eq!((state, attempts), (record.state.as_str(), record.attempts), "{entry}");
        }
        assert_eq!((&entry["key"], &entry["priority"]), (&record.key, &record.priority.into()), "{entry}");
        assert_eq!(entry["submitter"], record.submitter, "{entry}");
        if record.state != "SYNCED" {
            assert_eq!(entry["payload"], record.payload, "{}", record.id);
        }
    }
    // The measurements are older than any window by now. A note that cannot be decoded would log a warning.
    let log = daemon.log();
    let undecoded = log.lines().find(|line| line.contains("WARN") && line.contains("error="));
    assert_eq!(undecoded, None, "measurements, batches and what was learned are known");
}

#[test]
fn a_store_of_an_older_version_is_migrated_completely_and_sent_once() {
    for name in OLDER {
        let left = read_store_content(name);
        let server = ScriptedServer::start(Reply::correct);
        let home = Home::new(&Settings::for_server(&server.url()).with("server.request_timeout", "8s"));
        unpack(name, &home);
        let daemon = home.start();
        assert_migrated(&daemon, &left);

        assert_eq!(server.batches().len(), 0, "{name}: nothing is sent in a pause");
        // A commit of this version is before it.
        daemon.post("/v1/pause", "").expect_json(200);
        let changes = |cursor: &str| {
            let page = daemon.get(&format!("/v1/records?limit=1000&changed_after={cursor}")).expect_json(200);
            let changed = page["records"].as_array().unwrap();
            let states: Vec<Value> = changed.iter().map(|record| record["state"].clone()).collect();
            (page["next"].as_str().unwrap().to_owned(), states)
        };
        let (cursor, _) = changes("now");
        daemon.post("/v1/quarantine/retry", r#"{"all": true}"#).expect_json(200);
        daemon.post("/v1/resume", "").expect_json(200);
        // Records that failed before wait for an hour.
        daemon.post("/v1/sync", "").expect_json(202);
        assert_eq!(daemon.wait_until_done(), Counts::all_synced(left.records.len() as u64), "{name}");
        let unsynced = left.records.iter().filter(|record| record.state != "SYNCED").count();
        assert_eq!(changes(&cursor).1, vec!["SYNCED"; unsynced], "{name}");
        let (batches, mut sent) = (server.batches(), BTreeMap::new());
        for record in batches.iter().flat_map(Request::records) {
            let id = record["id"].as_str().unwrap().to_owned();
            assert_eq!(sent.insert(id, record["payload"].clone()), None, "{name}: sent twice: {record}");
        }
        let unsent = left.records.iter().filter(|record| record.state != "SYNCED");
        let expected: BTreeMap<String, Value> =
            unsent.map(|record| (record.id.clone(), record.payload.clone())).collect();
        assert_eq!(sent, expected, "{name}");
        assert_eq!(server.count_outcome_queries(&left.in_flight), 1, "{name}: looked up under its id");
        let again = batches.iter().find(|batch| batch.batch_id() == left.in_flight).unwrap();
        assert_eq!((again.attempt(), again.header("x-sync-device-id")), (2, left.device.as_str()));
    }
}

#[test]
fn records_of_an_older_version_wait_for_their_own_users_alone_unless_keys_are_shared() {
    for shared in [false, true] {
        let left = read_store_content(OF_TWO_USERS);
        let server = ScriptedServer::start(Reply::correct);
        let settings = Settings::for_server(&server.url()).with("queue.shared_keys", &shared.to_string());
        let home = Home::new(&settings);
        unpack(OF_TWO_USERS, &home);
        let daemon = home.start();
        assert_migrated(&daemon, &left);
        daemon.post("/v1/resume", "").expect_json(200);
        daemon.post("/v1/sync", "").expect_json(202);
        let is_reviewed = |record: &Record| record.state == "QUARANTINED";
        let is_held = |position: usize, record: &Record| {
            left.records[..position].iter().any(|before| {
                let same_lane = shared || before.submitter == record.submitter;
                is_reviewed(before) && same_lane && !record.key.is_null() && before.key == record.key
            })
        };
        let (mut synced, mut held) = (0, 0);
        for (position, record) in left.records.iter().enumerate().filter(|(_, record)| !is_reviewed(record)) {
            *(if is_held(position, record) { &mut held } else { &mut synced }) += 1;
        }
        assert!(held > 0 && synced > 0);
        daemon.wait_until("what is free to go", |status| status["records"]["synced"] == synced);
        assert_eq!(daemon.counts().pending, held, "shared: {shared}");
        for (position, record) in left.records.iter().enumerate() {
            let expected = match record {
                record if is_reviewed(record) => "QUARANTINED",
                record if is_held(position, record) => "PENDING",
                _ => "SYNCED",
            };
            assert_eq!(daemon.record(&record.id)["state"], expected, "shared: {shared}");
        }
        // From now on it is a store of the present version.
        let daemon = daemon.restart();
        assert_eq!(daemon.counts().pending, held);
    }
}

/// Every entry of every table.
fn everything_in(store: &Path) -> Vec<String> {
    fn entries<K: Key + 'static, V: redb::Value + 'static>(
        from: &ReadTransaction,
        name: &str,
    ) -> Vec<String> {
        let table = from.open_table(TableDefinition::<K, V>::new(name)).unwrap();
        let entries = table.iter().unwrap().map(|entry| {
            let (key, value) = entry.unwrap();
            format!("{name} {:?} {:?}", key.value(), value.value())
        });
        entries.collect()
    }
    let database = Database::open(store).unwrap();
    let from = database.begin_read().unwrap();
    let all = [
        entries::<&str, &[u8]>(&from, "meta"),
        entries::<u128, &[u8]>(&from, "manifest"),
        entries::<u64, &[u8]>(&from, "payload"),
        entries::<(u64, u32), &[u8]>(&from, "chunks"),
        entries::<u128, &[u8]>(&from, "batches"),
        entries::<(u64, u64), ()>(&from, "retry"),
        entries::<u64, u128>(&from, "quarantine"),
        entries::<u64, (u128, u64)>(&from, "receipts"),
        entries::<(&str, u64), u64>(&from, "lanes"),
    ];
    assert_eq!(from.list_tables().unwrap().count(), all.len());
    assert!(all.iter().all(|entries| !entries.is_empty()), "{all:?}");
    all.concat()
}

#[test]
fn a_store_of_a_newer_version_is_refused_with_what_to_do_and_left_unchanged() {
    let home = Home::new(&Settings::default());
    let store = unpack(NEWER, &home);
    let before = everything_in(&store);
    for _ in 0..2 {
        let status = Guard(home.command().spawn().unwrap()).wait();
        assert_eq!(status.code(), Some(78), "{}", home.log());
    }
    for words in [
        "has schema version 4, this program knows 3",
        "install the newer version again",
        "Nothing was changed",
    ] {
        assert!(home.log().contains(words), "{}", home.log());
    }
    // redb itself writes to a file that it opens, so the entries are compared.
    assert_eq!(everything_in(&store), before);
    let files: Vec<_> =
        fs::read_dir(home.path("state")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(files.iter().all(|name| name == "queue.redb" || name == "lock"), "{files:?}");
}
