//! Every phase of a request has its own limit, and only a slow server counts as one.

use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::peer::{Peer, PeerConnection, PeerRequest};
use crate::support::daemon::{Counts, Daemon};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

/// Applies a fault to the first batch, and checks its error; afterwards the server works. The limit that is exceeded is
/// long enough for the second batch on a busy machine.
#[track_caller]
fn fails_once(
    settings: impl Fn(Settings) -> Settings,
    first: impl Fn(PeerConnection<TcpStream>) + Send + Sync + 'static,
    (class, message): (&str, &str),
) {
    let peer = Peer::start(
        move |number, connection| if number == 0 { first(connection) } else { connection.serve() },
    );
    let daemon = Daemon::start(&settings(Settings::for_server(&peer.url())));
    let ids = daemon.enqueue(&[json!({"type": "T", "payload": {"text": "x".repeat(900_000)}})]);
    let error = wait_for("the batch to fail", || {
        Some(daemon.status()["sync"]["last_error"].clone()).filter(Value::is_object)
    });
    assert_eq!(error["class"], class, "{error}");
    assert!(error["message"].as_str().unwrap().starts_with(message), "{error}");
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(1));
    assert_eq!(daemon.record(&ids[0])["attempts"], 2);
}

/// Reads a batch and responds with this.
fn after_a_batch(
    response: impl Fn(&mut PeerConnection<TcpStream>, &PeerRequest),
) -> impl Fn(PeerConnection<TcpStream>) {
    move |mut connection| {
        let request = connection.next_batch().unwrap();
        response(&mut connection, &request);
        connection.wait_until_closed();
    }
}

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{";

#[test]
fn a_server_that_stops_reading_is_given_up_as_too_slow() {
    fails_once(
        |settings| settings.with("server.stall_timeout", "3s"),
        |mut connection| {
            let mut stream = connection.socket();
            stream.read_exact(&mut [0; 1000]).unwrap();
            // Until the daemon closes the connection, which a server that does not read cannot see.
            thread::park_timeout(crate::support::wait::DEADLINE);
            drop(connection.next());
        },
        ("link_too_slow", "the connection accepted no data for 3s while sending"),
    );
}

#[test]
fn a_body_that_only_trickles_is_given_up_as_too_slow() {
    fails_once(
        |settings| settings.with("server.send_timeout", "4s"),
        |connection| {
            let mut stream = connection.socket();
            while stream.read(&mut [0; 512]).is_ok_and(|bytes| bytes > 0) {
                thread::park_timeout(Duration::from_millis(50));
            }
        },
        ("link_too_slow", "the batch was not sent within 4s"),
    );
}

#[test]
fn a_server_that_does_not_respond_times_out() {
    fails_once(
        |settings| settings.with("server.request_timeout", "100ms"),
        after_a_batch(|_, _| {}),
        ("timeout", "no response within 2s 100ms"),
    );
}

#[test]
fn a_response_that_stalls_is_a_lost_connection() {
    fails_once(
        |settings| settings.with("server.answer_timeout", "300ms"),
        after_a_batch(|connection, _| connection.send_text(HEAD).unwrap()),
        ("connection_lost", "the response did not end within 300ms"),
    );
}

#[test]
fn a_response_that_trickles_is_a_lost_connection() {
    fails_once(
        |settings| settings.with("server.answer_timeout", "300ms"),
        after_a_batch(|connection, _| {
            connection.send_text(HEAD).unwrap();
            while connection.send_text(" ").is_some() {
                thread::park_timeout(Duration::from_millis(5));
            }
        }),
        ("connection_lost", "the response did not end within 300ms"),
    );
}

/// The complete response without its length, and then the end of the connection.
fn with_head(head: &'static str) -> impl Fn(PeerConnection<TcpStream>) {
    after_a_batch(move |connection, asked| {
        let body = asked.applied();
        connection.send_text(&format!("{head}\r\n{body}")).unwrap();
        connection.socket().shutdown(Shutdown::Write).unwrap();
    })
}

#[test]
fn a_response_that_ends_before_its_length_is_not_used() {
    fails_once(
        |settings| settings,
        with_head("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n"),
        ("connection_lost", "the response broke off"),
    );
}

#[test]
fn a_response_without_a_length_is_not_used() {
    fails_once(
        |settings| settings,
        with_head("HTTP/1.1 200 OK\r\n"),
        ("connection_lost", "the response does not say how long it is"),
    );
}

#[test]
fn a_response_that_is_too_large_is_not_read() {
    fails_once(
        |settings| settings.with("server.max_answer_bytes", "900B"),
        after_a_batch(|connection, _| connection.send_text(&format!("{HEAD}{}", " ".repeat(999))).unwrap()),
        ("connection_lost", "the response is larger than server.max_answer_bytes"),
    );
}
