//! Callers that do not speak HTTP, stop in the middle, or stay idle.

use std::io::Write;
use std::os::unix::net::UnixStream;

use crate::support::daemon::Daemon;
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

#[test]
fn garbage_and_incomplete_requests_do_no_harm() {
    let daemon = Daemon::start(&Settings::default());
    for bytes in [
        &b"\x00\x01\x02\xff\xfe garbage\r\n\r\n"[..],
        b"GET",
        b"GET /v1/status HTTP/9.9\r\n\r\n",
        b"POST /v1/records HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"type\":",
        b"POST /v1/records HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/records HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
        b"POST /v1/records HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999\r\n\r\n",
    ] {
        let response = daemon.raw(bytes);
        assert!(!response.contains(" 200 ") && !response.contains(" 201 "), "{response}");
    }
    assert_eq!(daemon.counts().pending, 0);
    daemon.enqueue_many(1);
}

#[test]
fn an_endless_line_is_not_buffered_forever() {
    let daemon = Daemon::start(&Settings::default());
    let response = daemon.raw(&[b"GET /".as_slice(), &vec![b'a'; 4 << 20]].concat());
    assert!(!response.contains(" 200 "), "{response}");
    daemon.enqueue_many(1);
}

#[test]
fn eighty_idle_connections_do_not_block_others_for_long() {
    let daemon = Daemon::start(&Settings::default());
    let mut idle: Vec<UnixStream> =
        (0..80).map(|_| UnixStream::connect(daemon.home.socket()).unwrap()).collect();
    for half in idle.iter_mut().step_by(2) {
        half.write_all(b"GET /v1/status HTTP/1.1\r\n").unwrap();
    }
    wait_for("a free connection", || daemon.get("/v1/status").json().is_object().then_some(()));
    daemon.enqueue_many(1);
    drop(idle);
    daemon.enqueue_many(1);
    assert_eq!(daemon.counts().pending, 2);
}
