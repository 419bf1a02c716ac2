//! Every call against a daemon that is well.

use serde_json::{Value, json};
use uuid::Uuid;

use super::adapter::{Adapter, Language, counts, ids, visits};
use crate::support::daemon::{Counts, Daemon};
use crate::support::gateway::Gateway;
use crate::support::settings::Settings;
use crate::support::wait::directory;

fn a_record_is_enqueued_and_every_call_describes_it(language: Language) {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let daemon = Daemon::start(&Settings::for_server(&gateway.url()));
    let mut client = Adapter::start(language, &daemon.home.socket());
    let cursor = client.call(&json!({"do": "changes", "cursor": "now"}))["next"].clone();
    daemon.post("/v1/pause", "").expect_json(200);
    let record =
        json!({"type": "Visits", "key": "account-17", "priority": 7, "payload": {"Subject": "Site visit"}});
    let result = client.enqueue(&[record]);
    assert_eq!(counts(&result), (1, 0));
    let id = &ids(&result)[0];

    let entry = client.call(&json!({"do": "record", "id": id}));
    assert_eq!(entry["waiting_for"]["reason"], "paused");
    assert_eq!((&entry["key"], &entry["priority"]), (&json!("account-17"), &json!(7)));
    let status = client.call(&json!({"do": "status"}));
    assert_eq!((&status["records"]["pending"], &status["sync"]["phase"]), (&json!(1), &json!("paused")));
    let changes = json!({"do": "changes", "cursor": cursor});
    assert_eq!(client.call(&changes), json!({"records": [], "next": cursor}));

    daemon.post("/v1/resume", "").expect_json(200);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(1));
    let page = client.call(&changes);
    assert_eq!((&page["records"][0]["id"], &page["records"][0]["state"]), (&json!(id), &json!("SYNCED")));
    let stranger = Uuid::now_v7();
    let found = client.call(&json!({"do": "lookup", "ids": [id, stranger]}));
    assert_eq!((&found["records"][0]["id"], &found["records"][0]["state"]), (&json!(id), &json!("SYNCED")));
    assert_eq!(found["unknown"], json!([stranger]));
    assert_eq!(client.call(&json!({"do": "record", "id": id}))["state"], "SYNCED");
}

/// The milliseconds in a version 7 id.
fn milliseconds(id: &Uuid) -> u128 {
    id.as_u128() >> 80
}

fn ids_of_the_client_are_of_version_7_and_ascend(language: Language) {
    let daemon = Daemon::start(&Settings::default());
    let before = Uuid::now_v7();
    let mut all = Vec::new();
    for _ in 0..3 {
        let mut client = Adapter::start(language, &daemon.home.socket());
        let mut of_process: Vec<Uuid> = Vec::new();
        for count in [1, 300, 1] {
            let result = client.enqueue(&visits(count));
            assert_eq!(counts(&result), (count as u64, 0));
            of_process.extend(ids(&result).iter().map(|id| id.parse::<Uuid>().unwrap()));
        }
        assert!(of_process.is_sorted(), "{of_process:?}");
        all.extend(of_process);
    }
    let after = Uuid::now_v7();
    for id in &all {
        assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122), "{id}");
        let range = milliseconds(&before)..=milliseconds(&after) + 1;
        assert!(range.contains(&milliseconds(id)), "{id} is not of this time");
    }
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count, "each id is unique");
}

fn a_record_with_an_id_of_its_own_is_a_duplicate_when_it_is_repeated(language: Language) {
    let daemon = Daemon::start(&Settings::default());
    let mut client = Adapter::start(language, &daemon.home.socket());
    let chosen = [Uuid::new_v4().to_string(), Uuid::now_v7().to_string()];
    let records: Vec<Value> =
        chosen.iter().map(|id| json!({"id": id, "type": "Visits", "payload": {}})).collect();
    let first = client.enqueue(&records[..1]);
    assert_eq!((counts(&first), ids(&first)), ((1, 0), chosen[..1].to_vec()));
    let again = client.enqueue(&records);
    assert_eq!((counts(&again), ids(&again)), ((1, 1), chosen.to_vec()));
    assert_eq!(daemon.counts().pending, 2);
}

fn no_records_are_no_request(language: Language) {
    let nowhere = directory();
    let mut client = Adapter::start(language, &nowhere.path().join("none.sock"));
    assert_eq!(client.enqueue(&[]), json!({"accepted": 0, "duplicates": 0, "ids": []}));
}

fn texts_in_all_scripts_and_unusual_numbers_arrive_unchanged(language: Language) {
    let daemon = Daemon::start(&Settings::default());
    let mut client = Adapter::start(language, &daemon.home.socket());
    let payload = json!({
        "Größe": "25 °C, 漢字, עברית, 🦀, e\u{301}", "": "no name", "controls": "\u{0}\u{1}\u{1f}\u{7f}\u{2028}\u{2029}",
        "escapes": "\" \\ / \u{8} \u{c} \n \r \t", "largest": 9_007_199_254_740_991_u64, "small": -0.125,
        "nested": [[], {}, [null, true, false, {"a": {"b": [1, 2, {"c": "d"}]}}]],
    });
    let record = json!({"type": "Besuche/訪問", "key": "Konto „17“", "payload": payload});
    let id = ids(&client.enqueue(&[record]))[0].clone();
    let stored = daemon.get(&format!("/v1/records/{id}?payload=true")).expect_json(200);
    assert_eq!(stored["payload"], payload);
    assert_eq!((&stored["type"], &stored["key"]), (&json!("Besuche/訪問"), &json!("Konto „17“")));
    let entry = client.call(&json!({"do": "record", "id": id}));
    assert_eq!((&entry["type"], &entry["key"]), (&stored["type"], &stored["key"]));
}

fn calls_without_a_daemon_fail_at_once(language: Language) {
    let nowhere = directory();
    let mut client = Adapter::start(language, &nowhere.path().join("none.sock"));
    for call in [
        json!({"do": "status"}),
        json!({"do": "record", "id": Uuid::now_v7()}),
        json!({"do": "lookup", "ids": [Uuid::now_v7()]}),
        json!({"do": "changes", "cursor": "now"}),
    ] {
        assert_eq!(client.fail(&call).kind(), "connection_failed");
    }
}

for_each_client! {
    a_record_is_enqueued_and_every_call_describes_it,
    ids_of_the_client_are_of_version_7_and_ascend,
    a_record_with_an_id_of_its_own_is_a_duplicate_when_it_is_repeated,
    no_records_are_no_request,
    texts_in_all_scripts_and_unusual_numbers_arrive_unchanged,
    calls_without_a_daemon_fail_at_once,
}
