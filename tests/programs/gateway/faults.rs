//! Time limits, closed connections and injected faults: an outcome that is unclear to the client is clear in
//! the ledger.

use std::io::Write;
use std::net::TcpStream;
use std::thread;

use fieldsync::protocol::wire::RecordStatus;

use crate::support::device::Batch;
use crate::support::gateway::Gateway;
use crate::support::http::statuses;
use crate::support::wait::{directory, wait_for};

fn settled(gateway: &Gateway, batch: &Batch) -> Vec<RecordStatus> {
    let response = wait_for("the batch to be settled", || {
        Some(gateway.query_outcome(batch)).filter(|response| response.status == 200)
    });
    statuses(&response.batch())
}

#[test]
fn after_the_time_limit_the_client_gets_504_and_the_outcome_is_available_later() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--time-limit", "500ms", "--record-cost", "2s"]);
    let batch = Batch::of(&["{}", "{}"]);
    let cut_off = gateway.post(&batch);
    assert_eq!(cut_off.status, 504);
    assert_eq!(cut_off.header("content-type"), "text/html");
    assert!(cut_off.text().contains("<h1>504"));
    assert_eq!(gateway.query_outcome(&batch).status, 202);
    assert_eq!(settled(&gateway, &batch), [RecordStatus::Applied; 2]);
    // The time limit is also that of the replay.
    let replay =
        wait_for("a replay", || Some(gateway.post(&batch)).filter(|response| response.status == 200));
    assert!(replay.batch().replayed);
    assert_eq!(gateway.applied_ids(), batch.ids());
}

#[test]
fn slow_batches_are_processed_concurrently() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--record-cost", "4s"]);
    thread::scope(|scope| {
        let senders: Vec<_> =
            (0..4).map(|_| scope.spawn(|| gateway.post(&Batch::of(&["{}"])).batch())).collect();
        wait_for("four batches at work at once", || {
            (gateway.metric("fieldsync_gateway_processing") == 4).then_some(())
        });
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

#[test]
fn a_client_that_hangs_up_does_not_stop_its_batch() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--record-cost", "4s"]);
    let batch = Batch::of(&["{}"]);
    let mut client = TcpStream::connect(gateway.address).unwrap();
    client.write_all(&batch.request()).unwrap();
    wait_for("the batch to be at work", || (gateway.query_outcome(&batch).status == 202).then_some(()));
    drop(client);
    assert_eq!(settled(&gateway, &batch), [RecordStatus::Applied]);
    assert_eq!(gateway.applied_ids(), batch.ids());
}

#[test]
fn an_incomplete_body_is_not_a_batch() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let batch = Batch::of(&["{}"]);
    let request = batch.request();
    let mut client = TcpStream::connect(gateway.address).unwrap();
    client.write_all(&request[..request.len() - 1]).unwrap();
    drop(client);
    let refusals = "fieldsync_gateway_batch_answers_total{status=\"400\"}";
    wait_for("the request to be given up", || (gateway.metric(refusals) == 1).then_some(()));
    assert_eq!(gateway.query_outcome(&batch).status, 404);
    assert!(gateway.ledger().is_empty());
}

#[test]
fn some_of_the_requests_that_fail_at_random_are_processed_nevertheless() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--fail-rate", "1.0"]);
    let batches: Vec<Batch> = (0..40).map(|_| Batch::of(&["{}"])).collect();
    for batch in &batches {
        assert_eq!(gateway.post(batch).status, 504);
    }
    wait_for("the unheard batches to be done", || {
        (gateway.metric("fieldsync_gateway_processing") == 0).then_some(())
    });
    let known = batches
        .iter()
        .filter(|batch| match gateway.query_outcome(batch).status {
            200 => true,
            404 => false,
            other => panic!("an outcome query got {other}"),
        })
        .count();
    // By chance, the count is outside of this range once in millions of runs.
    assert!((4..=36).contains(&known), "{known} of 40");
    assert_eq!(gateway.ledger().len(), known);
}

#[test]
fn a_batch_with_a_record_that_hangs_times_out_and_is_then_dropped() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--time-limit", "2s", "--hang-on", "poison"]);
    let batch = Batch::of(&["{}", "{\"text\":\"the poison one\"}", "{}"]);
    assert_eq!(gateway.post(&batch).status, 504);
    assert_eq!(gateway.query_outcome(&batch).status, 202);
    let forgotten = wait_for("the batch to be given up", || {
        Some(gateway.query_outcome(&batch)).filter(|response| response.status != 202)
    });
    assert_eq!(forgotten.code(), "UNKNOWN_BATCH");
    assert!(gateway.ledger().is_empty());

    let mut healthy = batch.again();
    healthy.records.remove(1);
    assert_eq!(statuses(&gateway.post(&healthy).batch()), [RecordStatus::Applied; 2]);
}

#[test]
fn a_record_that_is_to_be_rejected_is_rejected_alone_every_time() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--reject-on", "bad amount"]);
    let batch = Batch::of(&["{}", "{\"text\":\"bad amount\"}", "[1]", "7", "{}"]);
    let response = gateway.post(&batch).batch();
    let rejected = RecordStatus::Rejected;
    let applied = RecordStatus::Applied;
    assert_eq!(statuses(&response), [applied, rejected, rejected, rejected, applied]);
    for result in response.results.iter().filter(|result| result.status == rejected) {
        assert_eq!(result.code.as_deref(), Some("INVALID_DATA"));
        assert!(!result.message.as_deref().unwrap_or_default().is_empty());
    }
    let again = gateway.post(&batch.again()).batch();
    let duplicate = RecordStatus::Duplicate;
    assert_eq!(statuses(&again), [duplicate, rejected, rejected, rejected, duplicate]);
    assert_eq!(gateway.applied_ids(), [batch.ids()[0], batch.ids()[4]]);
}

#[test]
fn without_outcome_queries_the_gateway_behaves_like_a_server_that_lacks_them() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--no-lookup"]);
    let batch = Batch::of(&["{}"]);
    gateway.post(&batch).batch();
    let response = gateway.query_outcome(&batch);
    assert_eq!(response.status, 404);
    assert!(response.header("content-type").starts_with("text/plain"));
    assert!(!response.text().contains("UNKNOWN_BATCH"));
}
