//! Large calls are split into requests that the daemon accepts.

use serde_json::{Value, json};

use super::adapter::{Adapter, Language, TIME_LIMIT_MS, counts, enqueue, enqueue_within, ids, visits};
use super::relay::{Passage, Relay};
use super::scripted_socket::{Act, RawRequest, ScriptedSocket};
use crate::support::daemon::Daemon;
use crate::support::server::Gate;
use crate::support::settings::Settings;

const REQUEST_RECORDS_MAX: usize = 10_000;
const REQUEST_BYTES_MAX: usize = 8 << 20;

fn start() -> (Daemon, Relay) {
    let daemon = Daemon::start(&Settings::default());
    let relay = Relay::start(&daemon.home.socket(), |_, _| Passage::Forward);
    (daemon, relay)
}

fn large(n: usize, bytes: usize) -> Value {
    json!({"type": "Pictures", "payload": {"n": n, "picture": "x".repeat(bytes)}})
}

fn many_records_are_several_requests_in_order(language: Language) {
    let (daemon, relay) = start();
    let mut client = Adapter::start(language, &relay.path());
    let result = client.enqueue(&visits(2 * REQUEST_RECORDS_MAX + 1));
    assert_eq!(counts(&result), (20_001, 0));
    let requests = relay.requests();
    assert_eq!(sizes(&requests), [REQUEST_RECORDS_MAX, REQUEST_RECORDS_MAX, 1]);
    let sent: Vec<String> = requests.iter().flat_map(RawRequest::ids).collect();
    assert_eq!(sent, ids(&result));
    assert_eq!(daemon.counts().pending, 20_001);
}

fn large_records_are_several_requests_in_order(language: Language) {
    const RECORDS: usize = 12;
    let (daemon, relay) = start();
    let mut client = Adapter::start(language, &relay.path());
    let records: Vec<Value> = (0..RECORDS).map(|n| large(n, 900 << 10)).collect();
    let result = client.enqueue(&records);
    assert_eq!(counts(&result), (RECORDS as u64, 0));
    let requests = relay.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|request| request.body.len() <= REQUEST_BYTES_MAX));
    let last = ids(&result).pop().unwrap();
    let stored = daemon.get(&format!("/v1/records/{last}?payload=true")).expect_json(200);
    assert_eq!(stored["payload"], records[RECORDS - 1]["payload"]);
}

fn a_record_that_is_larger_than_a_request_goes_alone(language: Language) {
    let daemon = Daemon::start(
        &Settings::default().with("queue.max_record_bytes", "10MiB").with("batch.max_batch_bytes", "12MiB"),
    );
    let relay = Relay::start(&daemon.home.socket(), |_, _| Passage::Forward);
    let mut client = Adapter::start(language, &relay.path());
    let result = client.enqueue(&[large(0, 10), large(1, 9 << 20), large(2, 10)]);
    assert_eq!(counts(&result), (3, 0));
    assert_eq!(sizes(&relay.requests()), [1, 1, 1]);
}

/// A daemon that accepts only such requests.
fn taking(is_taken: impl Fn(&RawRequest) -> bool + Send + Sync + 'static) -> ScriptedSocket {
    ScriptedSocket::start(move |_, request| {
        if is_taken(request) { Act::accepted(request) } else { Act::error(413, "request_too_large", "") }
    })
}

/// The numbers of records of the requests.
fn sizes(requests: &[RawRequest]) -> Vec<usize> {
    requests.iter().map(|request| request.ids().len()).collect()
}

fn a_request_that_is_too_large_for_the_daemon_is_halved_until_it_fits(language: Language) {
    let socket = taking(|request| request.ids().len() <= 3);
    let mut client = Adapter::start(language, &socket.path());
    let result = client.enqueue(&vec![large(0, 10); 16]);
    assert_eq!(counts(&result), (16, 0));
    let (requests, ids) = (socket.requests(), ids(&result));
    assert_eq!(sizes(&requests), [16, 8, 4, 2, 2, 2, 2, 2, 2, 2, 2]);
    let (refused, taken) = requests.split_at(3);
    assert!(refused.iter().all(|request| ids.starts_with(&request.ids())), "the ids stay");
    assert_eq!(taken.iter().flat_map(RawRequest::ids).collect::<Vec<_>>(), ids);
}

fn a_record_that_is_too_large_for_the_daemon_ends_the_call(language: Language) {
    let socket = taking(|request| request.body.len() < 2000);
    let mut client = Adapter::start(language, &socket.path());
    let mut records = vec![large(0, 10); 6];
    records[3] = large(0, 2000);
    let error = client.fail(&enqueue(&records));
    error.assert_response("invalid_request", 413, "request_too_large");
    let requests = socket.requests();
    assert_eq!(sizes(&requests), [6, 3, 1]);
    assert_eq!((error.ids(), error.stored()), (requests[0].ids(), requests[1].ids()));
    assert_eq!(error.ids()[3..4], requests[2].ids());
}

/// It responds before it has read the request.
fn requests_are_as_small_as_the_daemon_is_set_to_take_them(language: Language) {
    let daemon = Daemon::start(&Settings::default().with("ipc.max_request_bytes", "2MiB"));
    let mut client = Adapter::start(language, &daemon.home.socket());
    let records: Vec<Value> = (0..12).map(|n| large(n, 900 << 10)).collect();
    let result = client.enqueue(&records);
    assert_eq!((counts(&result), daemon.counts().pending), ((12, 0), 12));
    for (id, record) in ids(&result).iter().zip(&records) {
        let stored = daemon.get(&format!("/v1/records/{id}?payload=true")).expect_json(200);
        assert_eq!(stored["payload"]["n"], record["payload"]["n"]);
    }
}

fn an_error_in_a_later_request_says_what_is_stored(language: Language) {
    let (daemon, relay) = start();
    let mut client = Adapter::start(language, &relay.path());
    let mut records = visits(REQUEST_RECORDS_MAX + 4);
    records[REQUEST_RECORDS_MAX + 2]["priority"] = 12.into();
    let error = client.fail(&enqueue(&records));
    error.assert_response("invalid_request", 400, "invalid_record");
    assert_eq!(error.position(), Some(REQUEST_RECORDS_MAX as u64 + 3));
    let requests = relay.requests();
    assert_eq!(error.stored(), requests[0].ids());
    assert_eq!(error.ids(), [requests[0].ids(), requests[1].ids()].concat());
    assert_eq!(daemon.counts().pending, REQUEST_RECORDS_MAX as u64);
}

fn the_end_of_the_time_limit_in_a_later_request_says_what_is_stored(language: Language) {
    let daemon = Daemon::start(&Settings::default());
    let gate = Gate::default();
    let lost = Passage::LoseRequest(gate.clone());
    let relay =
        Relay::start(
            &daemon.home.socket(),
            move |number, _| {
                if number == 0 { Passage::Forward } else { lost.clone() }
            },
        );
    let mut client = Adapter::start(language, &relay.path());
    // The first request must be stored within it, also on a busy machine.
    let error = client.fail(&enqueue_within(&visits(REQUEST_RECORDS_MAX + 1), TIME_LIMIT_MS / 4));
    gate.open();
    assert_eq!((error.kind(), error.ids().len()), ("time_limit", REQUEST_RECORDS_MAX + 1));
    assert_eq!(error.stored(), relay.requests()[0].ids());
}

for_each_client! {
    many_records_are_several_requests_in_order,
    large_records_are_several_requests_in_order,
    a_record_that_is_larger_than_a_request_goes_alone,
    a_request_that_is_too_large_for_the_daemon_is_halved_until_it_fits,
    a_record_that_is_too_large_for_the_daemon_ends_the_call,
    requests_are_as_small_as_the_daemon_is_set_to_take_them,
    an_error_in_a_later_request_says_what_is_stored,
    the_end_of_the_time_limit_in_a_later_request_says_what_is_stored,
}
