//! What the daemon refuses arrives as the right type of error, with everything that the application needs.

use serde_json::{Value, json};
use uuid::Uuid;

use super::adapter::{Adapter, Language, TIME_LIMIT_MS, enqueue, ids, visits};
use crate::support::daemon::Daemon;
use crate::support::settings::Settings;

fn start(language: Language) -> (Daemon, Adapter) {
    let daemon = Daemon::start(&Settings::default().with("queue.max_record_bytes", "64KiB"));
    let client = Adapter::start(language, &daemon.home.socket());
    (daemon, client)
}

/// Three records, of which the second has this field.
fn second_with(name: &str, value: Value) -> Vec<Value> {
    let mut records = visits(3);
    records[1][name] = value;
    records
}

fn a_faulty_record_is_named_by_its_position_and_nothing_is_stored(language: Language) {
    let (daemon, mut client) = start(language);
    for records in [
        second_with("priority", 12.into()),
        second_with("type", "".into()),
        second_with("key", "line\nbreak".into()),
        second_with("id", "not a uuid".into()),
    ] {
        let error = client.fail(&enqueue(&records));
        error.assert_response("invalid_request", 400, "invalid_record");
        assert_eq!((error.position(), error.ids().len(), error.stored().len()), (Some(2), 3, 0));
    }
    let error = client.fail(&enqueue(&second_with("payload", json!({"picture": "x".repeat(70_000)}))));
    error.assert_response("invalid_request", 413, "record_too_large");
    assert_eq!(error.position(), Some(2));
    assert_eq!(daemon.counts().pending, 0);
}

fn an_id_with_other_content_is_a_conflict(language: Language) {
    let (daemon, mut client) = start(language);
    let known = ids(&client.enqueue(&visits(1))).remove(0);
    let error = client.fail(&enqueue(&second_with("id", known.as_str().into())));
    error.assert_response("conflict", 409, "id_conflict");
    assert_eq!((error.position(), &error.ids()[1]), (Some(2), &known));
    assert_eq!(daemon.counts().pending, 1);
}

fn unknown_records_and_malformed_ids_are_told_apart(language: Language) {
    let (_daemon, mut client) = start(language);
    let stranger = Uuid::now_v7();
    let get = |id: &str| json!({"do": "record", "id": id});
    client.fail(&get(&stranger.to_string())).assert_response("no_such_record", 404, "no_such_record");
    // Each is one segment of a path, and stays one.
    for id in ["not an id", "a/b", "..", "?payload=true", "ü%20#", "00\r\nx: y"] {
        client.fail(&get(id)).assert_response("invalid_request", 400, "invalid_id");
    }
    client.fail(&json!({"do": "lookup", "ids": ["x"]})).assert_response(
        "invalid_request",
        400,
        "invalid_lookup",
    );
    let wait = json!({"do": "wait", "id": stranger, "states": null, "time_limit_ms": TIME_LIMIT_MS});
    client.fail(&wait).assert_response("no_such_record", 404, "no_such_record");
}

fn cursors_that_are_too_old_or_malformed_are_told_apart(language: Language) {
    let (_daemon, mut client) = start(language);
    let changes = |cursor: &str| json!({"do": "changes", "cursor": cursor});
    // A cursor of another store.
    client.fail(&changes("9c41f06be2a7d358.1204")).assert_response("cursor_expired", 410, "cursor_expired");
    for cursor in ["yesterday", "", "now&limit=1", "a b+c%20"] {
        client.fail(&changes(cursor)).assert_response("invalid_request", 400, "invalid_query");
    }
}

for_each_client! {
    a_faulty_record_is_named_by_its_position_and_nothing_is_stored,
    an_id_with_other_content_is_a_conflict,
    unknown_records_and_malformed_ids_are_told_apart,
    cursors_that_are_too_old_or_malformed_are_told_apart,
}
