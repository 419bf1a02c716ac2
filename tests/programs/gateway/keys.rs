//! Records with the same key in one batch, without a destination.

use fieldsync::protocol::wire::RecordStatus::{Applied, Duplicate, Rejected, Retry};
use fieldsync::protocol::wire::{BatchResponse, RecordStatus};
use uuid::Uuid;

use crate::support::device::{Batch, Record};
use crate::support::gateway::Gateway;
use crate::support::http::statuses;
use crate::support::wait::directory;

const REJECTED: &str = r#"{"text":"poison"}"#;

fn record(key: &str, payload: &str) -> Record {
    Record { key: Some(key.into()), ..Record::new(payload) }
}

fn codes(response: &BatchResponse) -> Vec<&str> {
    response.results.iter().map(|result| result.code.as_deref().unwrap_or_default()).collect()
}

fn pick(batch: &Batch, positions: &[usize]) -> Vec<Uuid> {
    let ids = batch.ids();
    positions.iter().map(|position| ids[*position]).collect()
}

#[test]
fn a_record_behind_a_rejected_one_of_its_key_is_held_and_applied_later() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--reject-on", "poison"]);
    let batch = Batch::with(vec![
        record("a", "{}"),
        record("a", REJECTED),
        record("b", "{}"),
        record("a", "{}"),
        Record::new(REJECTED),
        Record::new("{}"),
        record("a", "{}"),
        record("b", "{}"),
    ]);
    let response = gateway.post(&batch).batch();
    assert_eq!(statuses(&response), [Applied, Rejected, Applied, Retry, Rejected, Applied, Retry, Applied]);
    assert_eq!(codes(&response), ["", "INVALID_DATA", "", "HELD", "INVALID_DATA", "", "HELD", ""]);
    assert_eq!(response.results[3].message.as_deref(), Some("an earlier record of its key was not applied"));
    assert_eq!(gateway.applied_ids(), pick(&batch, &[0, 2, 5, 7]));
    let replay = gateway.query_outcome(&batch).batch();
    assert_eq!((replay.replayed, &replay.results), (true, &response.results));

    // The device sends the held ones again once the rejected one was reviewed.
    let again = Batch { records: vec![batch.records[3].clone(), batch.records[6].clone()], ..batch.again() };
    assert_eq!(statuses(&gateway.post(&again).batch()), [Applied; 2]);
    assert_eq!(gateway.applied_ids(), pick(&batch, &[0, 2, 5, 7, 3, 6]));
}

#[test]
fn a_record_behind_a_conflict_of_its_key_is_held_and_one_that_is_known_is_a_duplicate() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let first = Batch::with(vec![record("a", "{}"), record("a", r#"{"n":1}"#)]);
    gateway.post(&first).batch();

    let mut changed = first.records[0].clone();
    changed.payload = r#"{"n":2}"#.into();
    let later = record("a", r#"{"n":3}"#);
    let other = record("b", "{}");
    let records = vec![changed, first.records[1].clone(), later, other];
    let batch = Batch { records, ..first.again() };
    let response = gateway.post(&batch).batch();
    assert_eq!(statuses(&response), [Rejected, Duplicate, Retry, Applied]);
    assert_eq!(codes(&response), ["ID_CONFLICT", "", "HELD", ""]);

    // What was held is not known: it may be sent with other content.
    let mut corrected = batch.records[2].clone();
    corrected.payload = r#"{"n":4}"#.into();
    let again = Batch { records: vec![corrected], ..first.again() };
    assert_eq!(statuses(&gateway.post(&again).batch()), [RecordStatus::Applied]);
    assert_eq!(gateway.ledger().len(), 4);
}

#[test]
fn every_response_about_a_batch_says_that_keys_are_held() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let batch = Batch::of(&["{}"]);
    let mut other = batch.clone();
    other.records.push(Record::new("{}"));
    for (response, status) in [
        (gateway.query_outcome(&batch), 404),
        (gateway.post(&batch), 200),
        (gateway.post(&batch), 200),
        (gateway.post(&other), 422),
        (gateway.query_outcome(&batch), 200),
        (gateway.post_raw(&[], Vec::new()), 400),
    ] {
        assert_eq!((response.status, response.header("x-sync-holds-keys")), (status, "true"));
    }
}
