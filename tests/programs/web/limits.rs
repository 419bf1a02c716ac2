//! Clients that send too much, take too long, or do not read.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use hyper::Method;
use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::support::daemon::Daemon;
use crate::support::server::ScriptedServer;
use crate::support::settings::Settings;
use crate::support::wait::wait_for;
use crate::support::web::{CODE, Page, read_to_end, rejecting, with_code, with_page};

#[test]
fn a_change_that_is_too_large_without_length_or_not_json_is_refused_unread() {
    let daemon = with_code(&Settings::default(), &[]);
    let page = Page::of(&daemon);
    let code = format!("Bearer {CODE}");
    for (headers, status) in [
        (&[("content-type", "application/json"), ("content-length", "16385")][..], 413),
        (&[("content-type", "application/json"), ("content-length", "99999999999")], 413),
        (&[("content-type", "application/json"), ("transfer-encoding", "chunked")], 411),
        (&[("content-type", "application/json")], 411),
        (&[("content-type", "text/plain"), ("content-length", "13")], 415),
        (&[("content-length", "13")], 415),
    ] {
        let mut head = format!(
            "POST /v1/quarantine/retry HTTP/1.1\r\nhost: {}\r\nauthorization: {code}\r\nconnection: close\r\n",
            page.0
        );
        for (name, value) in headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        let response = read_to_end(&page.raw(format!("{head}\r\n").as_bytes()));
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{headers:?}: {response}");
    }
    let headers = [("authorization", code.as_str()), ("content-type", "application/json")];
    let ids: Vec<uuid::Uuid> = (0..400).map(|_| uuid::Uuid::new_v4()).collect();
    let many = json!({"ids": ids}).to_string();
    let response = page.request(Method::POST, "/v1/quarantine/retry", &headers, &many);
    assert_eq!(response.code(), "no_such_record", "what fits is read: {}", response.text());
}

#[test]
fn a_head_that_does_not_come_and_a_line_without_an_end_are_given_up() {
    let daemon = Daemon::start(&with_page(&Settings::default()));
    let page = Page::of(&daemon);
    for bytes in [&b""[..], b"GET / HTTP/1.1\r\nhost:", &[b"GET /".as_slice(), &b"a".repeat(60_000)].concat()]
    {
        let response = read_to_end(&page.raw(bytes));
        assert!(!response.contains(" 200 "), "{response}");
    }
    page.get("/v1/status").expect_json(200);
}

#[test]
fn a_client_that_stops_in_its_second_head_does_not_block_others() {
    let daemon = Daemon::start(&with_page(&Settings::default()));
    let page = Page::of(&daemon);
    let whole = format!("GET /v1/status HTTP/1.1\r\nhost: {}\r\n\r\n", page.0);
    let part = &whole.as_bytes()[..whole.len() - 8];
    // In one write, after the response has arrived.
    let mut callers: Vec<TcpStream> = Vec::new();
    for at_once in [true, false].repeat(8) {
        let caller =
            page.raw(&if at_once { [whole.as_bytes(), part].concat() } else { whole.clone().into() });
        let mut response = [0; 12];
        (&caller).read_exact(&mut response).unwrap();
        assert_eq!(&response, b"HTTP/1.1 200");
        if !at_once {
            (&caller).write_all(part).unwrap();
        }
        callers.push(caller);
    }
    for caller in &callers {
        read_to_end(caller);
    }
    page.get("/v1/status").expect_json(200);
}

#[test]
fn a_client_that_never_reads_its_responses_does_not_block_others() {
    let daemon = Daemon::start(&with_page(&Settings::default()));
    let page = Page::of(&daemon);
    let request = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", page.0);
    let deaf: Vec<TcpStream> = (0..16).map(|_| page.raw(request.repeat(200).as_bytes())).collect();
    for mut caller in &deaf {
        // Without reading. If the daemon has closed the connection, writing fails.
        wait_for("the daemon to hang up", || caller.write_all(b"x").is_err().then_some(()));
    }
    page.get("/v1/status").expect_json(200);
}

#[test]
fn a_body_that_does_not_arrive_is_given_up_for_every_sender() {
    let daemon = with_code(&Settings::default(), &[]);
    let page = Page::of(&daemon);
    for (request, code, framing, status) in [
        ("POST /v1/quarantine/retry", "guessed", "content-length: 13", 401),
        ("POST /v1/quarantine/retry", CODE, "content-length: 13", 408),
        ("POST /v1/quarantine/retry", CODE, "transfer-encoding: chunked", 411),
        ("GET /v1/status", CODE, "content-length: 13", 200),
        ("GET /v1/status", CODE, "transfer-encoding: chunked", 411),
    ] {
        let head = format!(
            "{request} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {code}\r\n\
             content-type: application/json\r\n{framing}\r\n\r\n",
            page.0
        );
        let response = read_to_end(&page.raw(head.as_bytes()));
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{response}");
    }
}

#[test]
fn connections_are_limited_and_the_socket_still_responds() {
    let daemon = Daemon::start(&with_page(&Settings::default()).with("web.max_connections", "4"));
    let page = Page::of(&daemon);
    let before = open_files(&daemon);
    let idle: Vec<_> = (0..40).map(|_| page.raw(b"GET / HTTP/1.1\r\n")).collect();
    daemon.enqueue_many(1);
    assert!(open_files(&daemon) <= before + 4 + 1, "{before} → {}", open_files(&daemon));
    drop(idle);
    page.get("/v1/status").expect_json(200);
}

fn open_files(daemon: &Daemon) -> usize {
    fs::read_dir(format!("/proc/{}/fd", daemon.child.0.id())).unwrap().count()
}

#[test]
fn open_pages_leave_connections_for_their_own_requests() {
    let daemon = with_code(&Settings::default(), &[("web.max_connections", "6")]);
    let page = Page::of(&daemon);
    let mut open: Vec<_> = (0..3).map(|_| page.follow()).collect();
    for follower in &mut open {
        follower.next("status");
    }
    let response = page.get("/v1/events");
    assert_eq!((response.status, response.code().as_str()), (503, "too_many_pages"));
    assert_eq!(page.retry(CODE, &json!({"all": true})).status, 200);
    drop(open.pop());
    wait_for("a place", || {
        let mut follower = page.follow();
        let mut first = [0; 13];
        std::io::Read::read_exact(&mut follower.stream, &mut first).unwrap();
        (first == *b"HTTP/1.1 200 ").then_some(())
    });
}

#[test]
fn a_page_that_stops_reading_is_disconnected_and_blocks_nothing() {
    let server = ScriptedServer::start(rejecting(&"long ".repeat(100)));
    let daemon = with_code(&Settings::for_server(&server.url()), &[]);
    let page = Page::of(&daemon);
    daemon.enqueue_many(50);
    daemon.wait_until_done();
    let deaf = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    deaf.set_recv_buffer_size(4096).unwrap();
    deaf.connect(&page.0.into()).unwrap();
    let head = format!("GET /v1/events HTTP/1.1\r\nhost: {}\r\n\r\n", page.0);
    assert_eq!(deaf.send(head.as_bytes()).unwrap(), head.len());
    let mut reading = page.follow();
    for attempts in 1..12 {
        reading.read_until("review", |review| {
            let records = review["records"].as_array().unwrap();
            records.len() == 50 && records.iter().all(|record| record["attempts"] == attempts)
        });
        page.retry(CODE, &json!({"all": true})).expect_json(200);
    }
    daemon.wait_for_log("a connection to the page ended early");
}
