//! A gateway that was asked to stop: what it accepted is finished and answered, and nothing new begins.

use std::thread;

use fieldsync::protocol::wire::RecordStatus;

use crate::support::device::Batch;
use crate::support::gateway::Gateway;
use crate::support::http::statuses;
use crate::support::wait::{directory, wait_for};

#[test]
fn while_batches_finish_load_balancers_and_devices_are_told_that_it_is_ending() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--record-cost", "6s"]);
    let (slow, new) = (Batch::of(&["{}"]), Batch::of(&["{}"]));
    assert_eq!(gateway.get("/readyz").status, 200);
    thread::scope(|scope| {
        let sender = scope.spawn(|| gateway.post(&slow));
        wait_for("the batch to be at work", || (gateway.query_outcome(&slow).status == 202).then_some(()));
        gateway.signal("TERM");
        let ending = wait_for("the end to be reported", || {
            Some(gateway.get("/readyz")).filter(|response| response.status == 503)
        });
        assert_eq!(ending.json()["status"], "draining");
        assert_eq!(gateway.get("/healthz").status, 200);
        let refused = gateway.post(&new);
        assert_eq!((refused.status, refused.code().as_str()), (503, "DRAINING"));
        assert_eq!(refused.header("connection"), "close");
        assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 2);
        assert_eq!(gateway.query_outcome(&slow).status, 202);
        let answered = sender.join().unwrap();
        assert_eq!(answered.header("connection"), "close");
        assert_eq!(statuses(&answered.batch()), [RecordStatus::Applied]);
    });
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
    let gateway = Gateway::start(directory.path(), &[]);
    assert_eq!(gateway.applied_ids(), slow.ids());
    gateway.post(&new).batch();
}

#[test]
fn a_body_that_was_being_sent_is_taken_and_answered() {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let batch = Batch::of(&["{}"]);
    let request = batch.request();
    let (first, rest) = request.split_at(request.len() - 10);
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.write_all(first).unwrap();
    wait_for("the request", || {
        (gateway.metric("fieldsync_gateway_http_requests_in_flight") == 2).then_some(())
    });
    gateway.signal("TERM");
    wait_for("the end to be reported", || (gateway.get("/readyz").status == 503).then_some(()));
    stream.write_all(rest).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
    let gateway = Gateway::start(directory.path(), &[]);
    assert_eq!(gateway.applied_ids(), batch.ids());
}
