//! The journal, read back from a private journald.

use std::collections::BTreeSet;

use fieldsync::journal;
use serde_json::{Value, json};

use crate::support::daemon::{Counts, Home};
use crate::support::journald::Journald;
use crate::support::secrets::place;
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

/// Fields that every entry has, or that journald adds.
fn of_fieldsync(entry: &Value) -> BTreeSet<&str> {
    let fields = entry.as_object().unwrap().keys().map(String::as_str);
    let mut fields: BTreeSet<&str> = fields.filter(|field| field.starts_with("FIELDSYNC_")).collect();
    for of_every_entry in ["FIELDSYNC_DEVICE_ID", "FIELDSYNC_DEVICE_NAME"] {
        assert!(fields.remove(of_every_entry), "{entry:#}");
    }
    fields
}

fn with_id<'a>(entries: &'a [Value], id: &str) -> Vec<&'a Value> {
    entries.iter().filter(|entry| entry["MESSAGE_ID"] == id).collect()
}

fn in_journal(settings: Settings) -> Settings {
    settings.with("log.target", "journald")
}

/// Batches of one record succeed, except for the poisonous one; larger batches with it get a 504.
fn poisoned(request: &Request) -> Reply {
    if !request.is_batch() {
        Reply::unknown_batch()
    } else if request.text().contains("poison") {
        Reply::html(504)
    } else {
        Reply::applied(request)
    }
}

#[test]
#[ignore = "needs root, and a journald that can be started"]
fn all_entries_of_a_batch_are_found_by_its_id() {
    let journal = Journald::start();
    let server = ScriptedServer::start(poisoned);
    let settings = in_journal(Settings::for_server(&server.url())).with("retry.quarantine_after", "2");
    let daemon = journal.daemon(Home::new(&settings));
    let texts = ["fine", "fine", "fine", "poison", "fine", "fine"];
    let records: Vec<Value> =
        texts.iter().map(|text| json!({"type": "Visits", "payload": {"text": text}})).collect();
    let ids = daemon.paused(|daemon| daemon.enqueue(&records));
    assert_eq!(daemon.wait_until_done(), Counts::settled(5, 1));

    let first = server.batches()[0].batch_id().to_owned();
    let of = |batch: &str| journal.entries(&[&format!("FIELDSYNC_BATCH_ID={batch}")]);
    let divided = wait_for("the batch to be divided", || {
        let story = of(&first);
        let divided = with_id(&story, journal::BATCH_DIVIDED).first().copied().cloned();
        divided.map(|divided| (story, divided))
    });
    let (story, divided) = divided;
    let outcomes: Vec<&str> = story.iter().filter_map(|entry| entry["FIELDSYNC_OUTCOME"].as_str()).collect();
    assert_eq!(outcomes, ["timeout", "unknown"], "{story:#?}");
    assert!(story[0]["MESSAGE"].as_str().unwrap().contains("is sent, attempt 1"), "{story:#?}");
    let failed = with_id(&story, journal::BATCH_FAILED)[0];
    for (field, value) in [("ATTEMPT", "1"), ("HTTP_STATUS", "504"), ("RECORDS", "6")] {
        assert_eq!(failed[format!("FIELDSYNC_{field}")], value, "{failed:#}");
    }
    for field in ["BYTES", "DURATION_MS", "IN_FLIGHT"] {
        assert!(failed[format!("FIELDSYNC_{field}")].as_str().unwrap().parse::<u64>().is_ok(), "{failed:#}");
    }
    assert_eq!((&failed["PRIORITY"], &failed["SYSLOG_IDENTIFIER"]), (&json!("6"), &json!("fieldsyncd")));

    let parts: Vec<Value> = journal.entries(&[&format!("FIELDSYNC_PARENT_ID={first}")]);
    assert!(parts.len() >= 2, "{parts:#?}");
    for part in &parts {
        let id = part["FIELDSYNC_BATCH_ID"].as_str().unwrap();
        assert!(divided["MESSAGE"].as_str().unwrap().contains(id), "{divided:#} does not name {id}");
        assert!(of(id).len() > 1, "it has a story, too");
    }

    let poison = journal.entries(&[&format!("FIELDSYNC_RECORD_ID={}", ids[3])]);
    let quarantined = with_id(&poison, journal::RECORD_QUARANTINED)[0];
    assert_eq!(quarantined["FIELDSYNC_STATE"], "QUARANTINED");
    assert_eq!(quarantined["PRIORITY"], "4", "a person has to act");
    assert!(quarantined["FIELDSYNC_BATCH_ID"].is_string());
    let fine = journal.entries(&[&format!("FIELDSYNC_RECORD_ID={}", ids[0]), "FIELDSYNC_STATE=SYNCED"]);
    assert_eq!(fine.len(), 1);
}

#[test]
#[ignore = "needs root, and a journald that can be started"]
fn entries_have_ids_and_prefixed_fields_and_are_explained() {
    let journal = Journald::start();
    let server = ScriptedServer::at_first(6, |request| {
        if request.is_batch() { Reply::error(500, "BROKEN") } else { Reply::unknown_batch() }
    });
    let daemon = journal.daemon(Home::new(&in_journal(Settings::for_server(&server.url()))));
    daemon.enqueue_many(3);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
    daemon.home.configure(&in_journal(Settings::for_server(&server.url())).with("batch.micro_batch", "0"));
    daemon.signal("HUP");
    let of = |id: &str| journal.entries(&[&format!("MESSAGE_ID={id}")]);
    wait_for("the refusal", || {
        of(journal::RELOAD_REFUSED).first().map(|entry| assert_eq!(entry["PRIORITY"], "3"))
    });
    let (status, _home) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    for id in
        [journal::READY, journal::ONLINE, journal::BATCH_FAILED, journal::BATCH_ANSWERED, journal::STOPPING]
    {
        wait_for(id, || (!of(id).is_empty()).then_some(()));
    }
    let modes: BTreeSet<String> = of(journal::BREAKER_OPENED)
        .iter()
        .map(|entry| entry["FIELDSYNC_BREAKER"].as_str().unwrap().into())
        .collect();
    assert!(modes.contains("micro"), "{modes:?}");

    let all = journal.entries(&["SYSLOG_IDENTIFIER=fieldsyncd"]);
    let known =
        ["MESSAGE", "MESSAGE_ID", "PRIORITY", "TARGET", "CODE_FILE", "CODE_LINE", "SYSLOG_IDENTIFIER"];
    for entry in &all {
        let own = entry.as_object().unwrap().keys().filter(|field| !field.starts_with('_'));
        let stray: Vec<&String> = own
            .filter(|field| !field.starts_with("FIELDSYNC_") && !known.contains(&field.as_str()))
            .collect();
        assert!(stray.is_empty(), "{stray:?} in {entry:#}");
        assert!(!of_fieldsync(entry).contains("FIELDSYNC_MESSAGE_ID"), "{entry:#}");
    }
    let explained = journal.journalctl(&["-x", &format!("MESSAGE_ID={}", journal::RELOAD_REFUSED)]);
    assert!(explained.contains("Subject: The changed configuration was refused"), "{explained}");
    assert!(explained.contains("systemctl reload fieldsync"), "{explained}");
}

#[test]
#[ignore = "needs root, and a journald that can be started"]
fn payloads_and_tokens_never_reach_the_journal() {
    let journal = Journald::start();
    let server = ScriptedServer::at_first(1, |_| Reply::html(504));
    let home = Home::new(&Settings::default());
    let token = home.path("token");
    place(&token, "sesame-open", 0o600);
    home.configure(
        &in_journal(Settings::for_server(&server.url()))
            .with("server.token_file", token.to_str().unwrap())
            .with("log.level", "trace"),
    );
    let daemon = journal.daemon(home);
    daemon.post("/v1/records", r#"{"type":"T","payload":{"text":"confidential-1"}}"#).expect_json(201);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(1));
    assert_eq!(server.batches()[0].header("authorization"), "Bearer sesame-open");
    let (status, _home) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    wait_for("the end", || {
        (!journal.entries(&[&format!("MESSAGE_ID={}", journal::STOPPING)]).is_empty()).then_some(())
    });
    for entry in journal.entries(&[]) {
        let text = entry.to_string();
        assert!(!text.contains("confidential") && !text.contains("sesame"), "{text}");
    }
}

#[test]
#[ignore = "needs root, and a journald that can be started"]
fn a_stuck_journald_blocks_nothing() {
    let journal = Journald::start();
    let server = ScriptedServer::start(Reply::correct);
    let settings = in_journal(Settings::for_server(&server.url())).with("log.level", "trace");
    let daemon = journal.daemon(Home::new(&settings));
    journal.stop();
    daemon.enqueue_many(500);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(500));
    // The start does not block either: the entries are on standard error.
    let daemon = journal.daemon(daemon.kill9());
    daemon.enqueue_many(1);
    daemon.wait_until_done();
    daemon.wait_for_log("is ready on");
    journal.resume();
}

#[test]
#[ignore = "needs root, and a journald that can be started"]
fn a_slow_journald_gets_every_entry() {
    const RECORDS: usize = 300;
    let journal = Journald::start();
    let server = ScriptedServer::start(Reply::correct);
    let settings = in_journal(Settings::for_server(&server.url())).with("log.level", "debug");
    let daemon = journal.daemon(Home::new(&settings));
    journal.stop();
    let ids = daemon.enqueue_many(RECORDS);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(RECORDS as u64));
    journal.resume();
    let (status, _home) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    wait_for("the end", || {
        (!journal.entries(&[&format!("MESSAGE_ID={}", journal::STOPPING)]).is_empty()).then_some(())
    });
    let synced = journal.entries(&["FIELDSYNC_STATE=SYNCED"]);
    let reported: Vec<&str> =
        synced.iter().filter_map(|entry| entry["FIELDSYNC_RECORD_ID"].as_str()).collect();
    assert_eq!(reported, ids, "each once, in order");
}

#[test]
#[ignore = "needs root, and a journald that can be started"]
fn a_far_too_slow_journald_gets_the_number_of_lost_entries() {
    let journal = Journald::start();
    let server = ScriptedServer::start(Reply::correct);
    let settings = in_journal(Settings::for_server(&server.url())).with("log.level", "trace");
    let daemon = journal.daemon(Home::new(&settings));
    journal.stop();
    daemon.enqueue_many(3000);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3000));
    journal.resume();
    wait_for("the gap to be reported", || {
        let entries = journal.entries(&["PRIORITY=4"]);
        let reported = entries.iter().filter_map(|entry| entry["MESSAGE"].as_str());
        reported.into_iter().any(|text| text.ends_with("journald did not read them in time")).then_some(())
    });
}
