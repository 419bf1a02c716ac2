//! A damaged store: the daemon starts with all readable records, reports the damage, and loses no other record.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::gateway::Gateway;
use crate::support::process::run;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::directory;

const DUPLICATES: &str = "fieldsync_gateway_records_total{result=\"duplicate\"}";

fn store(home: &Home) -> PathBuf {
    home.path("state/queue.redb")
}

fn kept(home: &Home) -> Vec<PathBuf> {
    let entries = fs::read_dir(home.path("state")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_string_lossy().contains("queue.redb.damaged-")).collect()
}

/// Overwrites the header of redb.
fn break_header(path: &Path) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    bytes[..4096].fill(0x5a);
    fs::write(path, &bytes).unwrap();
    bytes
}

/// A daemon with 60 unsent records, which is then stopped.
fn stopped_with_records(settings: &Settings) -> (Home, Vec<String>) {
    let daemon = Daemon::start(settings);
    daemon.post("/v1/pause", "").expect_json(200);
    let mut ids = daemon.enqueue_many(59);
    let large = json!({"type": "Visits", "payload": {"n": 59, "text": "y".repeat(50_000)}});
    ids.extend(daemon.enqueue(&[large]));
    let (status, home) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    (home, ids)
}

fn alert(status: &Value) -> Option<&Value> {
    status["alerts"].as_array().unwrap().iter().find(|alert| alert["alert"] == "store_damaged")
}

#[test]
fn a_daemon_on_a_damaged_file_sends_every_record_once_and_raises_an_alert_until_acknowledged() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let (home, ids) = stopped_with_records(&Settings::for_server(&gateway.url()));
    let damaged = break_header(&store(&home));
    let daemon = home.start();
    // The pause is lost.
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(60));
    let mut applied: Vec<String> = gateway.applied_ids().iter().map(ToString::to_string).collect();
    applied.sort_unstable();
    let mut sent = ids;
    sent.sort_unstable();
    assert_eq!(applied, sent);
    assert_eq!(gateway.metric(DUPLICATES), 0);

    let [file] = &kept(&daemon.home)[..] else { panic!("one file is kept") };
    assert_eq!(fs::read(file).unwrap(), damaged);
    let status = daemon.status();
    let alert_of = |status| alert(status).unwrap();
    let message = alert_of(&status)["message"].as_str().unwrap();
    for part in ["60 records were salvaged", file.to_str().unwrap()] {
        assert!(message.contains(part), "{message}");
    }
    assert!(alert_of(&status)["remedy"].as_str().unwrap().contains("fieldsync store acknowledge"));
    assert!(daemon.cli(&["status"]).stdout.contains("ALERT store_damaged: "));
    assert!(daemon.log().contains("the damaged store is kept as"), "{}", daemon.log());
    let daemon = daemon.restart();
    assert!(alert(&daemon.status()).is_some(), "a restart is no acknowledgement");

    let refused = daemon.post("/v1/alerts/acknowledge", r#"{"alert": "disk_full"}"#);
    assert_eq!((refused.status, refused.code().as_str()), (400, "invalid_alert"));
    let ran = daemon.cli(&["store", "acknowledge"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("60 records salvaged, 0 known to be lost"), "{ran:?}");
    assert_eq!(alert(&daemon.status()), None);
    let daemon = daemon.restart();
    assert_eq!(alert(&daemon.status()), None);
    let again = daemon.cli(&["store", "acknowledge", "--json"]);
    assert_eq!(again.stdout, "{\"acknowledged\":[]}\n");
    assert_eq!(kept(&daemon.home).len(), 1, "the damaged file stays");
}

#[test]
fn the_readable_part_of_a_truncated_file_is_sent() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let (home, ids) = stopped_with_records(&Settings::for_server(&gateway.url()));
    let file = fs::OpenOptions::new().write(true).open(store(&home)).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    let daemon = home.start();
    daemon.post("/v1/resume", "").expect_json(200);
    let counts = daemon.wait_until_done();
    assert!(counts.synced > 0 && counts.quarantined == 0, "{counts:?}");
    let applied: Vec<String> = gateway.applied_ids().iter().map(ToString::to_string).collect();
    assert_eq!(applied.len() as u64, counts.synced);
    assert!(applied.iter().all(|id| ids.contains(id)));
    assert!(alert(&daemon.status()).is_some());
}

#[test]
fn records_salvaged_by_command_can_be_enqueued_elsewhere() {
    let (home, ids) = stopped_with_records(&Settings::default());
    let damaged = break_header(&store(&home));
    let file = home.path("of the device.redb");
    fs::rename(store(&home), &file).unwrap();
    let fresh = Daemon::start(&Settings::default());
    let salvaged = fresh.cli(&["store", "salvage", file.to_str().unwrap()]);
    assert_eq!(salvaged.code, Some(0), "{salvaged:?}");
    assert_eq!(salvaged.stderr, "60 records salvaged, 0 known to be lost\n");
    let listed: Vec<String> = salvaged
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(listed, ids, "in order of arrival");
    let ran = fresh.cli_with(&["enqueue"], salvaged.stdout.as_bytes());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.ends_with("\nEnqueued 60 records (0 duplicates)\n"), "{ran:?}");
    assert_eq!(fresh.in_state("PENDING").len(), 60);
    let payload = fresh.get(&format!("/v1/records/{}?payload=true", ids[59])).expect_json(200);
    assert_eq!(payload["payload"]["text"].as_str().unwrap().len(), 50_000);
    assert_eq!(fs::read(&file).unwrap(), damaged, "the file is not changed");

    let out = home.path("out.ndjson");
    let arguments = ["store", "salvage", file.to_str().unwrap(), "--output", out.to_str().unwrap()];
    assert_eq!(fresh.cli(&arguments).code, Some(0));
    assert_eq!(fs::read_to_string(&out).unwrap(), salvaged.stdout);
    let again = fresh.cli(&arguments);
    assert_eq!(again.code, Some(1), "{again:?}");
    assert_eq!(fs::read_to_string(&out).unwrap(), salvaged.stdout, "nothing is overwritten");
    let missing = home.path("none");
    let ran = fresh.cli(&["store", "salvage", missing.to_str().unwrap()]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert_eq!(fresh.cli(&["store", "salvage"]).code, Some(2));
    let mode = run(std::process::Command::new("stat").args(["-c", "%a"]).arg(&out), b"");
    assert_eq!(mode.stdout.trim(), "600");
}

/// Changes a letter of a text at each position in the file.
fn change_letter(path: &Path, text: &[u8]) -> usize {
    let mut bytes = fs::read(path).unwrap();
    let found: Vec<usize> =
        (0..bytes.len() - text.len()).filter(|at| bytes[*at..].starts_with(text)).collect();
    for at in &found {
        bytes[*at] ^= 1;
    }
    fs::write(path, bytes).unwrap();
    found.len()
}

#[test]
fn a_damaged_payload_of_a_record_under_review_can_be_replaced_and_sent() {
    const TEXT: &str = "nowhere else in this file";
    let server = ScriptedServer::start(|request| {
        let status = json!({"status": "rejected", "code": "C", "message": "M"});
        Reply::results(request.batch_id(), &request.ids(), |_| Some(status.clone()))
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let id = daemon.enqueue(&[json!({"type": "T", "payload": {"text": TEXT}})]).remove(0);
    assert_eq!(daemon.wait_until_done(), Counts::settled(0, 1));
    server.set_script(Reply::correct);
    let (status, home) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(change_letter(&store(&home), TEXT.as_bytes()) > 0);
    let daemon = home.start();
    let unread = daemon.get(&format!("/v1/records/{id}?payload=true"));
    assert_eq!((unread.status, unread.code().as_str()), (500, "store_failed"));
    let edited = daemon.put(&format!("/v1/records/{id}/payload"), r#"{"text":"replaced"}"#).expect_json(200);
    assert_eq!(edited["id"], id);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(1));
    assert!(server.batches().last().unwrap().text().contains(r#""payload":{"text":"replaced"}"#));
}

#[test]
fn a_full_disk_and_blocking_records_are_in_the_status() {
    let daemon = Daemon::start(&Settings::default());
    let queue = &daemon.status()["queue"];
    assert_eq!((&queue["disk"], &queue["records"], &queue["holding"]), (&json!("ok"), &json!(0), &json!([])));
    assert!(queue["max_records"].as_u64() > Some(0) && queue["file_bytes"].as_u64() > Some(0));
    assert_eq!(daemon.status()["alerts"], json!([]));
}
