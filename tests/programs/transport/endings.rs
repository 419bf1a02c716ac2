//! When a working connection is closed: after a response that casts doubt on its sender, so that the next request
//! resolves the name again; and by a server that keeps no connections.

use serde_json::{Value, json};

use super::peer::Peer;
use crate::support::daemon::{Counts, Daemon};
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;

/// The number of connections to a server that responds to its first batch like this, and then correctly.
fn connections_after(reply: impl Fn(&Request) -> Reply + Send + 'static) -> u32 {
    let server = ScriptedServer::at_first(1, reply);
    let daemon = Daemon::start(&Settings::for_server(&server.url()));
    daemon.enqueue_many(2);
    daemon.wait_until_done();
    server.connections()
}

#[test]
fn after_a_response_that_discredits_the_server_the_next_request_opens_a_connection() {
    for reply in [
        Reply::error(503, "LATER"),
        Reply::error(503, "LATER").with("retry-after", "0"),
        Reply::error(429, "LATER"),
        Reply::error(500, "OOPS"),
        Reply::html(502),
        Reply::html(504),
        Reply::html(200),
        Reply::text(302, "text/html", ""),
        Reply::json(200, &json!({"batch_id": "another"})),
    ] {
        let Reply::Response { status, .. } = reply else { panic!("a response") };
        assert_eq!(connections_after(move |_| reply.clone()), 2, "{status}");
    }
}

#[test]
fn a_response_about_the_request_keeps_the_connection() {
    for status in [400, 409, 413, 415, 422] {
        assert_eq!(connections_after(move |_| Reply::error(status, "SO")), 1, "{status}");
    }
    assert_eq!(
        connections_after(|request| {
            Reply::results(request.batch_id(), &request.ids(), |_| Some(json!({"status": "retry"})))
        }),
        1
    );
}

#[test]
fn a_server_that_keeps_no_connection_costs_no_attempt() {
    for head in ["HTTP/1.1 200 OK\r\nconnection: close\r\n", "HTTP/1.0 200 OK\r\n"] {
        let peer = Peer::start(move |_, mut talk| {
            let Some(asked) = talk.next() else { return };
            let body = if asked.is_batch { asked.applied() } else { json!({}) }.to_string();
            talk.send_text(&format!("{head}content-length: {}\r\n\r\n{body}", body.len()));
        });
        let daemon = Daemon::start(&Settings::for_server(&peer.url()).batches_of(1));
        let ids = daemon.enqueue_many(3);
        assert_eq!(daemon.wait_until_done(), Counts::all_synced(3), "{}", daemon.log());
        for id in &ids {
            let entry = daemon.record(id);
            assert_eq!((&entry["attempts"], &entry["last_error"]), (&json!(1), &Value::Null), "{entry}");
        }
        assert_eq!((peer.connections(), peer.attempts().len()), (3, 3), "{head}");
    }
}

#[test]
fn a_response_of_http_1_0_may_end_with_its_connection() {
    let peer = Peer::start(|_, mut talk| {
        let Some(asked) = talk.next() else { return };
        let body = if asked.is_batch { asked.applied() } else { json!({}) };
        talk.send_text(&format!("HTTP/1.0 200 OK\r\n\r\n{body}"));
    });
    let daemon = Daemon::start(&Settings::for_server(&peer.url()));
    daemon.enqueue_many(3);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3), "{}", daemon.log());
}
