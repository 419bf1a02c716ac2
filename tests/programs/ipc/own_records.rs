//! A user sees its own records first, and only the public part of others' records.

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::user::{User, can_be_others, open_to_all};

const ALICE: User = User::without_groups(54_351);
const BOB: User = User::without_groups(54_352);

/// Alice has one synced record and one under review, Bob has one under review, and root has one that nothing blocks.
fn shared_device() -> (ScriptedServer, Daemon) {
    let server = ScriptedServer::start(|request| {
        if !request.is_batch() {
            return Reply::correct(request);
        }
        let records = request.records();
        Reply::results(request.batch_id(), &request.ids(), |id| {
            let record = records.iter().find(|record| record["id"] == id)?;
            let is_bad = record["payload"]["bad"] == true;
            let status = if is_bad { "rejected" } else { "applied" };
            Some(
                json!({"status": status, "code": "BAD_DATE", "message": "it says more than others may know"}),
            )
        })
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    open_to_all(&daemon);
    for (user, bad) in [(ALICE, false), (ALICE, true), (BOB, true), (User::ROOT, false)] {
        let record =
            json!({"type": "Visits", "key": format!("key-of-{}", user.uid), "payload": {"bad": bad}});
        user.post(&daemon, "/v1/records", &record.to_string()).expect_json(201);
    }
    daemon.wait_until_done();
    (server, daemon)
}

fn list(daemon: &Daemon, user: User, arguments: &[&str]) -> Vec<Value> {
    let ran = user.call(daemon, &[&["--json", "list"], arguments].concat(), "");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let page: Value = serde_json::from_str(&ran.stdout).unwrap();
    page["records"].as_array().unwrap().clone()
}

#[test]
fn a_user_sees_its_own_records_and_with_all_those_of_others_redacted() {
    if !can_be_others() {
        return;
    }
    let (_server, daemon) = shared_device();
    let submitters = |records: &[Value]| -> Vec<u64> {
        records.iter().map(|record| record["submitter"].as_u64().unwrap()).collect()
    };
    let alice = u64::from(ALICE.uid);
    assert_eq!(submitters(&list(&daemon, ALICE, &[])), [alice, alice]);
    assert_eq!(list(&daemon, User::ROOT, &[]).len(), 4);
    let all = list(&daemon, ALICE, &["--all"]);
    assert_eq!(all.len(), 4);
    for record in &all {
        let is_own = record["submitter"] == alice;
        assert_eq!(record["key"].is_string(), is_own, "{record}");
    }
    let export = |arguments: &[&str]| {
        let ran = ALICE.call(&daemon, &[&["manifest", "export"], arguments].concat(), "");
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    assert_eq!(submitters(&export(&[])), [alice, alice]);
    assert_eq!(export(&["--all"]), all);
    let bobs = all.iter().find(|record| record["submitter"] == BOB.uid).unwrap();
    let id = bobs["id"].as_str().unwrap();
    let shown = ALICE.call(&daemon, &["show", id], "");
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    let words = format!("It is a record of another user (uid {}): its key", BOB.uid);
    assert!(shown.stdout.contains(&words) && shown.stdout.contains("for admins"), "{}", shown.stdout);
    assert!(shown.stdout.contains("rejected") && shown.stdout.contains("BAD_DATE"), "{}", shown.stdout);
    assert!(!shown.stdout.contains("key-of") && !shown.stdout.contains("it says more"), "{}", shown.stdout);
    for user in [BOB, User::ROOT] {
        let shown = user.call(&daemon, &["show", id], "").stdout;
        assert!(shown.contains("key-of") && shown.contains("it says more"), "{shown}");
        assert!(!shown.contains("another user"), "{shown}");
    }
}

#[test]
fn the_status_of_a_user_counts_its_own_records_and_says_what_the_device_does() {
    if !can_be_others() {
        return;
    }
    let (_server, daemon) = shared_device();
    let caller = |user: User| user.get(&daemon, "/v1/status").expect_json(200)["caller"].take();
    let mine = caller(ALICE);
    assert_eq!((&mine["uid"], &mine["admin"]), (&json!(ALICE.uid), &json!(false)));
    let records = json!({"pending": 0, "syncing": 0, "failed": 0, "synced": 1, "quarantined": 1});
    assert_eq!(mine["records"], records);
    assert_eq!(mine["queue"]["records"], 1);
    let device = daemon.status();
    let most = |caller: &Value| caller["queue"]["max_records"].as_u64().unwrap();
    assert_eq!(most(&mine), device["queue"]["max_records"].as_u64().unwrap() * 3 / 4);
    assert_eq!(caller(User::ROOT)["admin"], true);
    assert_eq!(most(&caller(User::ROOT)), device["queue"]["max_records"]);
    assert_eq!(caller(User::without_groups(54_353))["records"]["synced"], 0);
    let status = |user: User, arguments: &[&str]| {
        let ran = user.call(&daemon, &[&["status"], arguments].concat(), "");
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        ran.stdout
    };
    let sentence = device["sync"]["text"].as_str().unwrap();
    let own = status(ALICE, &[]);
    let expected =
        format!("Of your records, 1 needs review; none wait to be sent\nThe device: {sentence} To do: ");
    assert!(own.starts_with(&expected), "{own}");
    assert!(own.contains("1 synced, 1 needs review\n"), "{own}");
    for whole in [status(ALICE, &["--all"]), status(User::ROOT, &[])] {
        assert!(whole.starts_with(&format!("{sentence}\n")), "{whole}");
        assert!(whole.contains("2 synced, 2 need review\n"), "{whole}");
    }
}
