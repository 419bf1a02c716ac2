//! Sockets to which no connection can be made: for moments, or for good.

use std::fs::{Permissions, set_permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use fieldsync::clock::Clock;
use nix::sys::socket::{Backlog, listen};
use serde_json::{Value, json};
use uuid::Uuid;

use super::adapter::{
    Adapter, Language, TIME_LIMIT_MS, counts, enqueue, enqueue_within, events, visits, wait,
};
use super::scripted_socket::{Act, RawRequest, ScriptedSocket, response};
use crate::support::wait::directory;

/// The time limit of calls that must end by it.
const SHORT_MS: u64 = 700;

fn a_socket_that_the_user_may_not_open_is_an_error_soon(language: Language) {
    let socket = ScriptedSocket::start(|_, request| Act::accepted(request));
    let set_mode = |mode| set_permissions(socket.path(), Permissions::from_mode(mode)).unwrap();
    set_mode(0o000);
    let mut client = Adapter::start_without_privileges(language, &socket.path());
    let id = Uuid::now_v7().to_string();
    for call in [enqueue(&visits(2)), wait(&id), events(None, "record", 1), json!({"do": "status"})] {
        // Not only at the time limit.
        let error = client.fail(&call);
        assert_eq!(error.kind(), "connection_failed", "{call}: {error:?}");
        assert_eq!(error.ids().len(), call["records"].as_array().map_or(0, Vec::len));
    }
    assert_eq!(socket.requests().len(), 0);
    set_mode(0o600);
    assert_eq!(counts(&client.enqueue(&visits(2))), (2, 0));
}

fn an_empty_path_is_the_socket_of_the_environment(language: Language) {
    let socket = ScriptedSocket::start(|_, request| Act::accepted(request));
    let mut client = Adapter::start_with_argument(language, "", &socket.path());
    assert_eq!(counts(&client.call(&enqueue_within(&visits(2), 5000))), (2, 0));
}

/// Accepts the connections that wait, and all that follow, and sends each request this response.
fn serve(listener: UnixListener, body: &Value) {
    let (response, clock) = (response(200, "", body), Clock::start());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if RawRequest::read(&stream, &clock).unwrap().is_some() {
                stream.write_all(&response).unwrap();
            }
        }
    });
}

fn a_socket_with_too_many_connections_is_tried_until_the_time_limit(language: Language) {
    let directory = directory();
    let path = directory.path().join("api.sock");
    let listener = UnixListener::bind(&path).unwrap();
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    let first = UnixStream::connect(&path).unwrap();
    let mut client = Adapter::start(language, &path);
    let status = |time_limit_ms: u64| json!({"do": "status", "time_limit_ms": time_limit_ms});
    assert_eq!(client.fail(&status(SHORT_MS)).kind(), "time_limit");
    client.send(&status(TIME_LIMIT_MS));
    drop(first);
    serve(listener, &json!({"version": "1"}));
    assert_eq!(client.receive_ok(), json!({"version": "1"}));
}

for_each_client! {
    an_empty_path_is_the_socket_of_the_environment,
    a_socket_that_the_user_may_not_open_is_an_error_soon,
    a_socket_with_too_many_connections_is_tried_until_the_time_limit,
}
