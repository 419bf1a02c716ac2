//! Responses whose end awc does not see, because they are interim or have no length: neither they nor the bytes
//! after them become the response to another request.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::peer::Peer;
use crate::support::daemon::{Counts, Daemon};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

/// The first batch gets `hint`, and its response only when a later request on the connection could read it.
#[track_caller]
fn is_given_up(hint: &'static str) {
    let asked: Arc<Mutex<Vec<(usize, bool)>>> = Arc::default();
    let lines = Arc::clone(&asked);
    let peer = Peer::start(move |number, mut talk| {
        while let Some(request) = talk.next() {
            lines.lock().unwrap().push((number, request.is_batch));
            if number > 0 || !request.is_batch {
                talk.respond(&request);
            } else if talk.send_text(hint).is_some() && talk.next().is_some() {
                lines.lock().unwrap().push((number, false));
                talk.respond(&request);
            }
        }
    });
    let daemon = Daemon::start(&Settings::for_server(&peer.url()));
    let first = daemon.enqueue_many(3);
    let error = wait_for("the batch to fail", || {
        Some(daemon.status()["sync"]["last_error"].clone()).filter(Value::is_object)
    });
    assert_eq!(error["class"], "connection_lost", "{error}");
    assert!(error["message"].as_str().unwrap().contains("an interim response (HTTP 1"), "{error}");
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
    assert_eq!(daemon.record(&first[0])["attempts"], 2);
    let second = daemon.enqueue_many(3);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(6));
    let entry = daemon.record(&second[0]);
    assert_eq!((&entry["attempts"], &entry["last_error"]), (&json!(1), &Value::Null), "{entry}");
    // The outcome was queried first, and no request used the connection with the outstanding response.
    let asked = asked.lock().unwrap();
    let batch = asked.iter().position(|(_, is_batch)| *is_batch).unwrap();
    let after = &asked[batch + 1..];
    assert!(after.iter().all(|(number, _)| *number > 0) && !after[0].1, "{asked:?}");
    assert_eq!(peer.attempts(), ["1", "2", "1"]);
}

#[test]
fn after_early_hints_no_request_gets_the_response_to_an_earlier_one() {
    is_given_up("HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n");
}

#[test]
fn after_100_continue_no_request_gets_the_response_to_an_earlier_one() {
    is_given_up("HTTP/1.1 100 Continue\r\n\r\n");
}

#[test]
fn after_102_processing_no_request_gets_the_response_to_an_earlier_one() {
    is_given_up("HTTP/1.1 102 Processing\r\n\r\n");
}

#[test]
fn a_redirect_without_a_length_is_still_a_captive_portal() {
    let redirect = "HTTP/1.1 302 Found\r\nlocation: http://hotel.example/\r\n\r\n<h1>Welcome</h1>";
    let server = ScriptedServer::at_first(1, |_| Reply::Raw(redirect.into()));
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    let ids = daemon.enqueue_many(3);
    let error = wait_for("the batch to fail", || {
        Some(daemon.status()["sync"]["last_error"].clone()).filter(Value::is_object)
    });
    assert_eq!((&error["class"], &error["http_status"]), (&json!("interfered"), &json!(302)), "{error}");
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
    assert_eq!(daemon.record(&ids[0])["last_error"], Value::Null);
}
