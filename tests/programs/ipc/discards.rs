//! A discarded record leaves a receipt: everyone who asks for it learns who discarded it and when.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::daemon::{Counts, Daemon};
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;

fn reject_all(request: &Request) -> Reply {
    let ids = if request.is_batch() { request.ids() } else { Vec::new() };
    Reply::results(request.batch_id(), &ids, |_| Some(json!({"status": "rejected", "code": "BAD"})))
}

/// The user of this test, who also is an admin of its daemons.
fn own_name() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

struct Scene {
    daemon: Daemon,
    discarded: String,
    kept: String,
}

/// Two records under review, one of which is discarded.
fn discard_one(settings: &Settings) -> Scene {
    let daemon = Daemon::start(settings);
    let ids = daemon.enqueue(&[
        json!({"type": "Visits", "key": "a", "payload": {"n": 1}}),
        json!({"type": "Visits", "key": "b", "payload": {"n": 2}}),
    ]);
    assert_eq!(daemon.wait_until_done(), Counts::settled(0, 2));
    let discarded = daemon.cli(&["quarantine", "discard", &ids[0]]);
    assert_eq!((discarded.code, discarded.stdout.contains("1 record")), (Some(0), true), "{discarded:?}");
    let [discarded, kept] = ids.try_into().unwrap();
    Scene { daemon, discarded, kept }
}

fn ids_of(page: &Value) -> Vec<&str> {
    page["records"].as_array().unwrap().iter().map(|record| record["id"].as_str().unwrap()).collect()
}

#[test]
fn a_discarded_record_says_who_discarded_it_and_when() {
    let server = ScriptedServer::start(reject_all);
    let settings = Settings::for_server(&server.url()).with("log.level", "info");
    let Scene { daemon, discarded, kept } = discard_one(&settings);
    let by = own_name();
    let assert_known = |daemon: &Daemon| {
        let record = daemon.detail(&discarded);
        assert_eq!((&record["state"], &record["discarded_by"]), (&json!("DISCARDED"), &json!(by)));
        assert_eq!((&record["receipt"], record.get("waiting_for")), (&Value::Null, None));
        assert_eq!(record["last_error"]["code"], "BAD", "why it was under review");
        assert!(record["updated_at"].as_str() > record["created_at"].as_str(), "{record}");
        assert_eq!(daemon.record(&kept).get("discarded_by"), None);

        let shown = daemon.cli(&["show", &discarded]);
        let first = shown.stdout.lines().next().unwrap();
        let at = record["updated_at"].as_str().unwrap();
        assert!(first.starts_with(&format!("Discarded by {by}: {at} (")), "{first}");
        assert!(shown.code == Some(0) && !first.contains("sync"), "{shown:?}");
        assert!(!shown.stdout.contains("SYNCED") && !shown.stdout.contains("To do"), "{shown:?}");
        record
    };
    let record = assert_known(&daemon);
    let log = daemon.log();
    assert!(log.contains(&format!("record {discarded} was discarded on request of {by}")), "{log}");
    assert_eq!(daemon.counts(), Counts::settled(0, 1), "it is not counted");
    let daemon = daemon.restart();
    assert_eq!(assert_known(&daemon), record);
    assert_eq!(daemon.counts(), Counts::settled(0, 1));
}

#[test]
fn lists_and_exports_have_discarded_records_with_their_state() {
    let server = ScriptedServer::start(reject_all);
    let Scene { daemon, discarded, kept } = discard_one(&Settings::for_server(&server.url()));
    let get = |query: &str| daemon.get(&format!("/v1/records?{query}")).expect_json(200);
    for query in ["state=DISCARDED", "state=DISCARDED&order=newest", "state=DISCARDED&key=a&order=newest"] {
        let page = get(query);
        assert_eq!(ids_of(&page), [&discarded], "{query}");
        assert_eq!(page["records"][0]["discarded_by"], json!(own_name()));
    }
    assert_eq!(ids_of(&get("")), [&discarded, &kept]);
    assert_eq!(ids_of(&get("state=SYNCED")), Vec::<&str>::new());
    assert_eq!(ids_of(&get("state=QUARANTINED,DISCARDED&order=newest")), [&kept, &discarded]);

    let listed = |arguments: &[&str]| daemon.cli(&[&["list", "--quiet"], arguments].concat()).stdout;
    assert_eq!(listed(&["--state", "DISCARDED"]), format!("{discarded}\n"));
    assert_eq!(listed(&["--all"]), format!("{kept}\n{discarded}\n"));
    assert_eq!(listed(&[]), format!("{kept}\n"), "what is not settled, and the last synced ones");
    assert!(daemon.cli(&["list", "--all"]).stdout.contains("  discarded  "));

    let lookup = daemon.post("/v1/records/lookup", json!({"ids": [discarded]}).to_string()).expect_json(200);
    assert_eq!((&lookup["records"][0]["state"], &lookup["unknown"]), (&json!("DISCARDED"), &json!([])));
    assert_eq!(lookup["records"][0]["discarded_by"], json!(own_name()));
    let manifest = daemon.cli(&["manifest", "export"]).stdout;
    let states: Vec<Value> =
        manifest.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["state"].clone()).collect();
    assert_eq!(states, [json!("DISCARDED"), json!("QUARANTINED")]);
}

#[test]
fn a_discarded_record_does_not_come_back() {
    let server = ScriptedServer::start(reject_all);
    let Scene { daemon, discarded, .. } = discard_one(&Settings::for_server(&server.url()));
    server.set_script(Reply::correct);
    let again = json!({"id": discarded, "type": "Visits", "key": "a", "payload": {"n": 1}});
    let accepted = daemon.post("/v1/records", again.to_string()).expect_json(201);
    assert_eq!(accepted, json!({"accepted": 0, "duplicates": 1, "ids": [discarded]}));
    let changed = json!({"id": discarded, "type": "Visits", "key": "a", "payload": {"n": 7}});
    let conflict = daemon.post("/v1/records", changed.to_string());
    assert_eq!((conflict.status, conflict.code().as_str()), (409, "id_conflict"));

    let these = json!({"ids": [discarded]}).to_string();
    for (verb, code) in
        [("retry", "not_quarantined"), ("discard", "not_quarantined"), ("add", "already_discarded")]
    {
        let refused = daemon.post(&format!("/v1/quarantine/{verb}"), these.as_str());
        assert_eq!((refused.status, refused.code().as_str()), (409, code), "{verb}");
        assert!(refused.error().1.contains("discarded"), "{:?}", refused.error());
        let ran = daemon.cli(&["quarantine", verb, &discarded]);
        assert!(ran.code == Some(8) && ran.stderr.contains("discarded"), "{ran:?}");
    }
    let edited = daemon.cli(&["quarantine", "edit", &discarded]);
    assert!(edited.code == Some(1) && edited.stderr.contains("is discarded"), "{edited:?}");
    let mended = daemon.put(&format!("/v1/records/{discarded}/payload"), "{}");
    assert_eq!((mended.status, mended.code().as_str()), (409, "not_quarantined"));
    assert_eq!(daemon.record(&discarded)["state"], "DISCARDED");
    let shown = daemon.get(&format!("/v1/records/{discarded}?payload=true")).expect_json(200);
    assert_eq!(shown.get("payload"), None);
    assert_eq!(daemon.counts(), Counts::settled(0, 1));
}
