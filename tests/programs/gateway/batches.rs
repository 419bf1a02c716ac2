//! Batches and records are applied once, and always get the same response.

use std::collections::HashMap;
use std::io::Write;
use std::thread;

use fieldsync::protocol::wire::{RecordResult, RecordStatus};
use serde_json::Value;
use uuid::Uuid;

use crate::support::device::{Batch, Record};
use crate::support::gateway::Gateway;
use crate::support::http::statuses;
use crate::support::wait::{directory, wait_for};

#[test]
fn a_batch_is_applied_once_and_its_response_is_replayed_from_then_on() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let mut batch = Batch::of(&[r#"{ "Subject" : "Site visit",  "Amount":120.50 }"#, "{\"a\":\n1}"]);
    batch.records[0].key = Some("account-17".into());

    let first = gateway.post(&batch);
    assert_eq!(first.header("content-type"), "application/json");
    assert_eq!(first.header("accept-encoding"), "zstd, gzip");
    let first = first.batch();
    assert_eq!(first.batch_id.0, batch.id);
    assert!(!first.replayed);
    assert_eq!(statuses(&first), [RecordStatus::Applied; 2]);
    let ids: Vec<Uuid> = first.results.iter().map(|result| result.id.0).collect();
    assert_eq!(ids, batch.ids());

    for replay in [gateway.post(&batch), gateway.query_outcome(&batch)] {
        let replay = replay.batch();
        assert!(replay.replayed);
        assert_eq!(replay.results, first.results);
    }

    let ledger = gateway.ledger();
    assert_eq!(ledger.len(), 2);
    assert_eq!(ledger[0]["seq"], 1);
    assert_eq!(ledger[0]["type"], "Visits");
    assert_eq!(ledger[0]["key"], "account-17");
    assert_eq!(ledger[0]["device_id"], batch.device.to_string());
    assert_eq!(ledger[0]["batch_id"], batch.id.to_string());
    assert!(ledger[0]["applied_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(ledger[1]["key"], Value::Null);
    assert_eq!(ledger[0].get("payload"), None);
    assert_eq!(gateway.applied_ids(), batch.ids());
}

#[test]
fn a_batch_id_with_another_body_is_rejected() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let batch = Batch::of(&["{}"]);
    gateway.post(&batch).batch();

    let mut other = batch.clone();
    other.records.push(Record::new("{}"));
    let refused = gateway.post(&other);
    assert_eq!((refused.status, refused.code().as_str()), (422, "BATCH_ID_REUSED"));
    assert_eq!(gateway.applied_ids(), batch.ids());

    // Batches of another device are independent of it.
    other.device = Uuid::new_v4();
    assert_eq!(statuses(&gateway.post(&other).batch()), [RecordStatus::Duplicate, RecordStatus::Applied]);
}

#[test]
fn while_a_batch_is_in_flight_a_resend_gets_409_and_an_outcome_query_202() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--record-cost", "2s"]);
    let batch = Batch::of(&["{}", "{}"]);
    thread::scope(|scope| {
        let sender = scope.spawn(|| gateway.post(&batch).batch());
        let looked_up = wait_for("the batch to be at work", || {
            Some(gateway.query_outcome(&batch)).filter(|response| response.status == 202)
        });
        assert_eq!(looked_up.header("retry-after"), "1");
        let state: Value = serde_json::from_slice(&looked_up.body).unwrap();
        assert_eq!(state["batch_id"], batch.id.to_string());
        assert_eq!(state["state"], "processing");
        assert_eq!(gateway.metric("fieldsync_gateway_processing"), 1);

        let resent = gateway.post(&batch);
        assert_eq!((resent.status, resent.code().as_str()), (409, "PROCESSING"));
        assert_eq!(resent.header("retry-after"), "1");

        let mut other = batch.clone();
        other.records.pop();
        let refused = gateway.post(&other);
        assert_eq!((refused.status, refused.code().as_str()), (422, "BATCH_ID_REUSED"));

        assert_eq!(statuses(&sender.join().unwrap()), [RecordStatus::Applied; 2]);
    });
    assert!(gateway.query_outcome(&batch).batch().replayed);
    assert_eq!(gateway.metric("fieldsync_gateway_processing"), 0);
}

#[test]
fn a_record_that_arrives_again_in_another_batch_is_a_duplicate() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let first = Batch::of(&["{\"n\":1}", "{\"n\":2}"]);
    gateway.post(&first).batch();
    let mut second = first.again();
    second.records.push(Record::new("{}"));
    assert_eq!(
        statuses(&gateway.post(&second).batch()),
        [RecordStatus::Duplicate, RecordStatus::Duplicate, RecordStatus::Applied]
    );
    assert_eq!(gateway.applied_ids(), second.ids());
}

#[test]
fn a_record_id_with_other_content_is_a_conflict_and_not_applied() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let first = Batch::of(&["{\"n\":1}"]);
    gateway.post(&first).batch();
    let mut payload = first.again();
    payload.records[0].payload = "{\"n\":2}".into();
    let mut key = first.again();
    key.records[0].key = Some(String::new());
    for other in [payload, key] {
        let response = gateway.post(&other).batch();
        assert_eq!(statuses(&response), [RecordStatus::Rejected]);
        assert_eq!(response.results[0].code.as_deref(), Some("ID_CONFLICT"));
    }
    assert_eq!(gateway.ledger().len(), 1);
}

#[test]
fn a_key_with_control_characters_is_rejected_alone() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let characters = ["\\u0000", "\\t", "\\u001b", "\u{7f}", "\u{9b}"];
    for character in characters {
        let mut batch = Batch::of(&["{}", r#"{"text":"a\u0000b"}"#]);
        batch.records[0].key = Some(format!("account{character}"));
        let response = gateway.post(&batch).batch();
        assert_eq!(statuses(&response), [RecordStatus::Rejected, RecordStatus::Applied]);
        assert_eq!(response.results[0].code.as_deref(), Some("INVALID_DATA"));
        assert_eq!(
            response.results[0].message.as_deref(),
            Some("`key` must not contain control characters"),
            "as a device says it"
        );
    }
    assert_eq!(gateway.ledger().len(), characters.len());
}

#[test]
fn batches_that_arrive_together_and_share_records_apply_each_record_once() {
    const SENDERS: usize = 8;
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--record-cost", "5ms"]);
    let records: Vec<Record> = (0..20).map(|_| Record::new("{}")).collect();
    let results: Vec<RecordResult> = thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let mut batch = Batch::with(records.clone());
                batch.records.rotate_left(sender * 2);
                let gateway = &gateway;
                scope.spawn(move || gateway.post(&batch).batch().results)
            })
            .collect();
        senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
    });
    let mut applied: HashMap<Uuid, usize> = HashMap::new();
    for result in &results {
        *applied.entry(result.id.0).or_default() += usize::from(result.status == RecordStatus::Applied);
    }
    assert_eq!(results.len(), SENDERS * records.len());
    assert!(applied.values().all(|times| *times == 1), "{applied:?}");
    let mut ids = gateway.applied_ids();
    ids.sort();
    let mut expected: Vec<Uuid> = records.iter().map(|record| record.id).collect();
    expected.sort();
    assert_eq!(ids, expected);
}

#[test]
fn a_batch_that_never_arrived_or_came_from_another_device_is_unknown() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let mut batch = Batch::of(&["{}"]);
    let unknown = gateway.query_outcome(&batch);
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "UNKNOWN_BATCH"));
    gateway.post(&batch).batch();
    batch.device = Uuid::new_v4();
    assert_eq!(gateway.query_outcome(&batch).status, 404);
}

#[test]
fn compressed_bodies_are_accepted_and_the_encoding_does_not_make_another_batch() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let batch = Batch::of(&["{\"text\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}"]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&batch.body()).unwrap();
    let bodies = [
        ("zstd", zstd::encode_all(batch.body().as_slice(), 3).unwrap()),
        ("gzip", gzip.finish().unwrap()),
        ("identity", batch.body()),
    ];
    for (nth, (encoding, body)) in bodies.into_iter().enumerate() {
        let mut headers = batch.headers();
        headers.push(("content-encoding".into(), encoding.into()));
        let response = gateway.post_raw(&headers, body).batch();
        assert_eq!(response.replayed, nth > 0, "{encoding}");
        assert_eq!(statuses(&response), [RecordStatus::Applied]);
    }
}

#[test]
fn responses_and_records_survive_a_restart() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let batch = Batch::of(&["{}"]);
    let first = gateway.post(&batch).batch();
    gateway.kill();

    let gateway = Gateway::start(directory.path(), &[]);
    assert_eq!(gateway.query_outcome(&batch).batch().results, first.results);
    assert!(gateway.post(&batch).batch().replayed);
    assert_eq!(statuses(&gateway.post(&batch.again()).batch()), [RecordStatus::Duplicate]);
    assert_eq!(gateway.ledger().len(), 1);
}

#[test]
fn a_response_is_deleted_after_its_retention_and_its_records_stay_known() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--keep-answers", "1s"]);
    let batch = Batch::of(&["{}"]);
    gateway.post(&batch).batch();
    wait_for("the response to be deleted", || (gateway.query_outcome(&batch).status == 404).then_some(()));
    let again = gateway.post(&batch).batch();
    assert!(!again.replayed);
    assert_eq!(statuses(&again), [RecordStatus::Duplicate]);
    assert_eq!(gateway.ledger().len(), 1);
}

#[test]
fn a_ledger_of_many_pages_is_listed_completely_and_in_order() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let large = format!("{{\"text\":\"{}\"}}", "x".repeat(400_000));
    let mut expected = Vec::new();
    for payload in ["{}", large.as_str()] {
        let records = if payload == "{}" { 1100 } else { 7 };
        let batch = Batch::with((0..records).map(|_| Record::new(payload)).collect());
        gateway.post(&batch).batch();
        expected.extend(batch.ids());
    }
    assert_eq!(gateway.applied_ids(), expected);
    let seqs: Vec<u64> = gateway.ledger().iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert!(seqs.into_iter().eq(1..=1107));
}
