//! Records that are looked up by their ids.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::daemon::{Counts, Daemon};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;

fn look_up(daemon: &Daemon, ids: &[String]) -> Value {
    daemon.post("/v1/records/lookup", json!({"ids": ids}).to_string()).expect_json(200)
}

#[test]
fn the_end_of_many_records_is_learned_in_one_call_with_their_receipts() {
    let server = ScriptedServer::start(|request| {
        let ids = if request.is_batch() { request.ids() } else { Vec::new() };
        Reply::results(request.batch_id(), &ids, |id| {
            Some(if id == ids[0] {
                json!({"status": "rejected", "code": "INVALID_DATA", "message": "no", "field": "/n"})
            } else {
                json!({"status": "applied", "receipt": {"id": id}})
            })
        })
    });
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let ids = daemon.paused(|daemon| daemon.enqueue_many(3));
    assert_eq!(daemon.wait_until_done(), Counts::settled(2, 1));
    let missing = Uuid::new_v4().to_string();
    let asked = [ids[2].clone(), missing.clone(), ids[0].clone(), ids[1].clone()];
    let found = look_up(&daemon, &asked);
    assert_eq!(found["unknown"], json!([missing]));
    let records = found["records"].as_array().unwrap();
    let found_ids: Vec<&Value> = records.iter().map(|record| &record["id"]).collect();
    assert_eq!(found_ids, [&ids[2], &ids[0], &ids[1]], "in the order of the request");
    for record in records {
        let mut detail = daemon.detail(record["id"].as_str().unwrap());
        detail.as_object_mut().unwrap().remove("waiting_for");
        assert_eq!(*record, detail);
    }
    assert_eq!(records[0]["receipt"]["id"], ids[2].as_str());
    assert_eq!(
        (&records[1]["state"], &records[1]["last_error"]["field"]),
        (&json!("QUARANTINED"), &json!("/n"))
    );
}

#[test]
fn a_thousand_records_of_one_key_are_found_at_once_and_more_are_refused() {
    let daemon = Daemon::start(&Settings::default());
    let records: Vec<Value> =
        (0..1001).map(|n| json!({"type": "T", "key": "a", "payload": {"n": n}})).collect();
    let ids = daemon.enqueue(&records);
    daemon.post("/v1/quarantine/add", json!({"ids": [ids[0]]}).to_string()).expect_json(200);
    let found = look_up(&daemon, &ids[..1000]);
    assert_eq!(found["records"].as_array().unwrap().len(), 1000);
    assert_eq!(found["records"][999]["held_by"], ids[0].as_str());
    let refused = daemon.post("/v1/records/lookup", json!({"ids": ids}).to_string());
    assert_eq!((refused.status, refused.code().as_str()), (400, "invalid_lookup"));
    assert!(refused.error().1.contains("at most 1000 at a time"), "{:?}", refused.error());
    for (body, part) in [
        (r#"{"ids": ["17"]}"#, "each id must be a UUID; send {\"ids\": [\"…\"]}"),
        (r#"{"id": []}"#, "`id` is not known here; known are ids"),
        ("{}", "`ids` is missing"),
        ("", "the JSON ends too early"),
        ("[]", "must be a JSON object"),
    ] {
        let refused = daemon.post("/v1/records/lookup", body);
        assert_eq!((refused.status, refused.code().as_str()), (400, "invalid_lookup"), "{body}");
        assert!(refused.error().1.contains(part), "{:?}", refused.error());
    }
    assert_eq!(look_up(&daemon, &[]), json!({"records": [], "unknown": []}));
    let wrong_method = daemon.get("/v1/records/lookup");
    assert_eq!((wrong_method.status, wrong_method.header("allow")), (405, "POST"));
}
