//! Examples in the description of the local API: what an app sends, and what it gets.

use serde_json::{Value, json};
use utoipa::openapi::RefOr;
use utoipa::openapi::content::Content;
use utoipa::openapi::path::Operation;

use crate::api::submission::EXAMPLE_ID;

const KNOWN_ID: &str = "0195b3f2-6c1e-7d4a-9a51-2f8e5c0b7d14";
const UNKNOWN_ID: &str = "0195b3f2-6c1e-7d4a-9a51-2f8e5c0b7d15";

/// Adds the examples of an operation, if it has any.
pub(super) fn add_examples(operation: &mut Operation) {
    let name = operation.operation_id.clone().unwrap_or_default();
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        for (content_type, content) in &mut body.content {
            set_example(content, request_example(&name, content_type));
        }
    }
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        if let Some(content) = response.content.get_mut("application/json") {
            set_example(content, response_example(&name, status));
        }
    }
}

fn set_example(content: &mut RefOr<Content>, example: Option<Value>) {
    if let RefOr::T(content) = content {
        content.example = example;
    }
}

fn request_example(operation: &str, content_type: &str) -> Option<Value> {
    let visit = json!({
        "id": EXAMPLE_ID, "type": "Visits", "key": "account-17",
        "payload": {"Subject": "Site visit", "Amount": 120.5}
    });
    Some(match operation {
        "enqueue" if content_type == "application/json" => visit,
        "enqueue" => {
            let order = json!({"type": "Orders", "priority": 9, "payload": {"Item": "A-100", "Count": 2}});
            format!("{visit}\n{order}\n").into()
        }
        "look_up" => json!({"ids": [EXAMPLE_ID, KNOWN_ID, UNKNOWN_ID]}),
        "mend" => json!({"Subject": "Site visit", "Amount": 121}),
        "add" | "retry" => json!({"ids": [EXAMPLE_ID]}),
        "discard" => json!({"all": true, "confirm": true}),
        "acknowledge" => json!({"alert": "store_damaged"}),
        "pause" => json!({"for_s": 3600}),
        _ => return None,
    })
}

fn response_example(operation: &str, status: &str) -> Option<Value> {
    let error = |code: &str, message: &str| json!({"error": {"code": code, "message": message}});
    Some(match (operation, status) {
        ("enqueue", "201") => json!({"accepted": 1, "duplicates": 0, "ids": [EXAMPLE_ID]}),
        ("enqueue", "400") => json!({"error": {
            "code": "invalid_record", "position": 2,
            "message": format!("record 2: `id` must be a UUID, such as {EXAMPLE_ID}; nothing was stored")
        }}),
        ("list", "200") => json!({"records": [synced_entry()], "next": null}),
        ("show", "200") => with_receipt(synced_entry()),
        ("look_up", "200") => json!({
            "records": [with_receipt(synced_entry()), rejected_record()], "unknown": [UNKNOWN_ID]
        }),
        ("list", "410") => error("cursor_expired", "the changes after this cursor are no longer known"),
        ("telemetry", "200") => telemetry_report(),
        ("retry" | "discard" | "add", "200") => json!({"changed": 1}),
        ("batch", "404") => error("no_such_batch", "there is no such batch among the recent ones"),
        (_, "404") => error("no_such_record", "no record has this id"),
        ("enqueue" | "mend", "507") => error(
            "queue_full",
            "queue.max_records (5000000) is reached: nothing was stored; try again when records have been synced",
        ),
        (operation, "503") if operation != "events" => {
            error("stopping", "the daemon is stopping; repeat this with the same ids once it is back")
        }
        _ => return None,
    })
}

fn synced_entry() -> Value {
    json!({
        "id": EXAMPLE_ID, "seq": 1203, "type": "Visits", "key": "account-17", "priority": 5, "state": "SYNCED",
        "attempts": 1, "sends": 1, "payload_bytes": 41, "submitter": 1000, "created_at": "2026-03-01T08:15:30.120Z",
        "updated_at": "2026-03-01T08:15:32.480Z", "next_attempt_at": null,
        "batch_id": "0b0f6c1e-4a1f-4d4a-9a51-2f8e5c0b7d20", "last_error": null
    })
}

fn with_receipt(mut entry: Value) -> Value {
    if let Some(fields) = entry.as_object_mut() {
        let receipt = json!({"module": "Visits", "id": "4150868000000123", "action": "insert"});
        fields.insert("receipt".into(), receipt);
    }
    entry
}

fn rejected_record() -> Value {
    let mut entry = synced_entry();
    if let Some(fields) = entry.as_object_mut() {
        fields.extend([
            ("id".into(), KNOWN_ID.into()),
            ("seq".into(), 1204.into()),
            ("state".into(), "QUARANTINED".into()),
            ("receipt".into(), Value::Null),
            (
                "last_error".into(),
                json!({
                    "class": "rejected", "http_status": 200, "code": "INVALID_DATA",
                    "message": "Amount must be a number", "field": "/Amount", "at": "2026-03-01T08:15:32.480Z"
                }),
            ),
        ]);
    }
    entry
}

fn telemetry_report() -> Value {
    let per_record = json!({"records": 1150, "mean_ms": 31.4, "p50_ms": 24, "p95_ms": 71});
    let outcomes = json!({
        "batches": 24, "succeeded": 23, "timeouts": 1, "refused": 0, "other_failures": 0, "records": 1150,
        "success_rate": 0.958, "records_per_s": 31.2
    });
    let with_outcomes = |mut entry: Value| {
        if let (Some(fields), Some(outcomes)) = (entry.as_object_mut(), outcomes.as_object()) {
            fields.extend(outcomes.clone());
        }
        entry
    };
    let period = |start: Value| {
        let mut entry = with_outcomes(start);
        if let Some(fields) = entry.as_object_mut() {
            fields.extend([("per_record".into(), per_record.clone()), ("quarantined".into(), 0.into())]);
        }
        entry
    };
    json!({
        "window_s": 604_800, "from": "2026-02-23T00:00:00.000Z", "to": "2026-03-01T08:15:32.480Z",
        "per_record": per_record, "batch_overhead_ms": 120.0,
        "by_batch_size": [with_outcomes(json!({
            "size": "26–50", "mean_ms": 1570.0, "expected_ms": 1540.0, "expected": 22
        }))],
        "by_in_flight": [with_outcomes(json!({"in_flight": "3–4"}))],
        "by_type": [{
            "type": "Visits", "records": 1150, "per_record": per_record, "ms_per_record": 29.0,
            "is_separated": true, "delay_ms": 93_350.0, "failed_ms": 60_000.0, "delay_share": 1.0, "failures": 1,
            "quarantined": 0
        }],
        "failures": [{
            "class": "timeout", "count": 1, "interface": "cellular",
            "interfaces": [{"interface": "cellular", "count": 1}], "connect_ms": 210.0, "round_trip_ms": 95.0,
            "bytes_per_s": 48_000.0, "signal_dbm": null, "metered": 1, "link_age_s": 45.0,
            "by_hour": [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }],
        "days": [period(json!({"day": "2026-03-01"}))],
        "hours": [period(json!({"hour": "2026-03-01T08:00:00.000Z"}))]
    })
}
