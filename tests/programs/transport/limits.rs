//! Every stretch of a request has a limit of its own, and only a slow server is a slow server.

use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::peer::{Asked, Peer, Talk};
use crate::support::daemon::{Counts, Daemon};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

/// What the first batch meets, with what was said of it; after that the server is well again.
#[track_caller]
fn fails_once(
    settings: impl Fn(Settings) -> Settings,
    first: impl Fn(Talk<TcpStream>) + Send + Sync + 'static,
    (class, message): (&str, &str),
) {
    let peer = Peer::start(move |number, talk| if number == 0 { first(talk) } else { talk.serve() });
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

/// Reads a batch and answers it with this.
fn after_a_batch(answer: impl Fn(&mut Talk<TcpStream>, &Asked)) -> impl Fn(Talk<TcpStream>) {
    move |mut talk| {
        let asked = talk.next_batch().unwrap();
        answer(&mut talk, &asked);
        talk.hang();
    }
}

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{";

#[test]
fn a_server_that_stops_reading_is_given_up_as_too_slow() {
    fails_once(
        |settings| settings.with("server.stall_timeout", "300ms"),
        |mut talk| {
            let mut stream = talk.socket();
            stream.read_exact(&mut [0; 1000]).unwrap();
            // Until the daemon hangs up, which a server that does not read is not told of.
            thread::park_timeout(crate::support::wait::DEADLINE);
            drop(talk.next());
        },
        ("link_too_slow", "the connection accepted no data for 300ms while sending"),
    );
}

#[test]
fn a_body_that_only_trickles_is_given_up_as_too_slow() {
    fails_once(
        |settings| settings.with("server.send_timeout", "400ms"),
        |talk| {
            let mut stream = talk.socket();
            while stream.read(&mut [0; 512]).is_ok_and(|bytes| bytes > 0) {
                thread::park_timeout(Duration::from_millis(5));
            }
        },
        ("link_too_slow", "the batch was not sent within 400ms"),
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
        after_a_batch(|talk, _| talk.say(HEAD).unwrap()),
        ("connection_lost", "the response did not end within 300ms"),
    );
}

#[test]
fn a_response_that_trickles_is_a_lost_connection() {
    fails_once(
        |settings| settings.with("server.answer_timeout", "300ms"),
        after_a_batch(|talk, _| {
            talk.say(HEAD).unwrap();
            while talk.say(" ").is_some() {
                thread::park_timeout(Duration::from_millis(5));
            }
        }),
        ("connection_lost", "the response did not end within 300ms"),
    );
}

/// The answer, whole but for the line about its length, and then the end of the connection.
fn with_head(head: &'static str) -> impl Fn(Talk<TcpStream>) {
    after_a_batch(move |talk, asked| {
        let body = asked.applied();
        talk.say(&format!("{head}\r\n{body}")).unwrap();
        talk.socket().shutdown(Shutdown::Write).unwrap();
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
        after_a_batch(|talk, _| talk.say(&format!("{HEAD}{}", " ".repeat(999))).unwrap()),
        ("connection_lost", "the response is larger than server.max_answer_bytes"),
    );
}
