//! Rejected requests, and their error responses.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use fieldsync::protocol::wire::BATCH_PATH;
use hyper::Method;
use uuid::Uuid;

use crate::support::device::Batch;
use crate::support::gateway::Gateway;
use crate::support::http::{HttpResponse, borrow_headers};
use crate::support::wait::directory;

const LIMIT: usize = 100_000;

type Headers = Vec<(String, String)>;

type Pairs<'a> = &'a [(&'a str, &'a str)];

/// A change that makes a correct request invalid.
type RequestDefect = Box<dyn Fn(&mut Headers, &mut Vec<u8>)>;

fn without(name: &'static str) -> RequestDefect {
    Box::new(move |headers, _| headers.retain(|header| header.0 != name))
}

fn with(name: &'static str, value: &str) -> RequestDefect {
    let value = value.to_owned();
    Box::new(move |headers, _| {
        headers.retain(|header| header.0 != name);
        headers.push((name.into(), value.clone()));
    })
}

fn body(change: fn(&str) -> String) -> RequestDefect {
    Box::new(move |_, body| *body = change(str::from_utf8(body).unwrap()).into_bytes())
}

fn coded(encoding: &'static str, bytes: Vec<u8>) -> RequestDefect {
    Box::new(move |headers, body| {
        headers.push(("content-encoding".into(), encoding.into()));
        body.clone_from(&bytes);
    })
}

/// 50 MiB of spaces: a few kilobytes as gzip and as zstd.
fn decompression_bombs() -> (Vec<u8>, Vec<u8>) {
    let spaces = vec![b' '; 50 << 20];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&spaces).unwrap();
    let bombs = (gzip.finish().unwrap(), zstd::encode_all(spaces.as_slice(), 3).unwrap());
    assert!(bombs.0.len() < LIMIT && bombs.1.len() < LIMIT);
    bombs
}

fn malformed_requests() -> Vec<(u16, &'static str, RequestDefect)> {
    let (gzip_bomb, zstd_bomb) = decompression_bombs();
    let stranger = Uuid::new_v4().to_string();
    let (batch, device) = ("x-sync-batch-id", "x-sync-device-id");
    let (sequence, attempt) = ("x-batch-sequence", "x-sync-attempt");
    let too_large = "larger than 100000 bytes";
    let one_to_n = "1 ≤ i ≤ N";
    vec![
        (400, "x-sync-batch-id is missing", without(batch)),
        (400, "x-sync-device-id is missing", without(device)),
        (400, "x-batch-sequence is missing", without(sequence)),
        (400, "x-sync-attempt is missing", without(attempt)),
        (400, "x-sync-batch-id is `seven`", with(batch, "seven")),
        (400, "x-sync-device-id is ``", with(device, "")),
        (400, one_to_n, with(sequence, "0/5")),
        (400, one_to_n, with(sequence, "6/5")),
        (400, one_to_n, with(sequence, "+1/5")),
        (400, one_to_n, with(sequence, "1")),
        (400, "a number from 1", with(attempt, "0")),
        (400, "a number from 1", with(attempt, "one")),
        (400, "x-sync-batch-id says", with(batch, &stranger)),
        (400, "x-sync-device-id says", with(device, &stranger)),
        (400, "says `2/5`, the body `1/5`", with(sequence, "2/5")),
        (400, "not a batch", body(|text| text.replace("}]}", "}]"))),
        (400, "not a batch", body(|_| String::new())),
        (400, "missing field `type`", body(|text| text.replace("\"type\"", "\"kind\""))),
        (400, "not a batch", body(|text| text.replace("2026-03-01", "yesterday"))),
        (400, "no records", body(no_records)),
        (400, "in the batch twice", body(first_record_twice)),
        (413, too_large, body(|_| " ".repeat(LIMIT + 1))),
        (413, too_large, coded("zstd", zstd_bomb)),
        (413, too_large, coded("gzip", gzip_bomb)),
        (400, "decoded as zstd", coded("zstd", b"no frame".to_vec())),
        (400, "decoded as gzip", coded("gzip", b"no member".to_vec())),
        (415, "`br` is not supported", coded("br", Vec::new())),
        (415, "use zstd, gzip or none", coded("gzip, zstd", Vec::new())),
    ]
}

#[test]
fn every_malformed_request_is_rejected_with_a_code_and_a_precise_message() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--max-body-bytes", "100000"]);
    for (status, message, change) in malformed_requests() {
        let batch = Batch::of(&["{}", "{}"]);
        let (mut headers, mut body) = (batch.headers(), batch.body());
        change(&mut headers, &mut body);
        let response = gateway.post_raw(&headers, body);
        let (code, said) = response.error();
        let expected = match status {
            413 => "BODY_TOO_LARGE",
            415 => "UNSUPPORTED_ENCODING",
            _ => "INVALID_REQUEST",
        };
        assert_eq!((response.status, code.as_str()), (status, expected), "{said}");
        assert!(said.contains(message), "`{message}` is not in `{said}`");
        assert_eq!(response.header("accept-encoding"), "zstd, gzip");
        if status == 413 {
            assert_eq!(response.header("x-sync-max-bytes"), "100000");
        }
        assert_eq!(gateway.query_outcome(&batch).status, 404);
    }
    assert!(gateway.ledger().is_empty());
}

fn no_records(text: &str) -> String {
    let start = text.find('[').unwrap();
    format!("{}[]}}", &text[..start])
}

fn first_record_twice(text: &str) -> String {
    let start = text.find('[').unwrap() + 1;
    let end = start + text[start..].find("},{").unwrap() + 1;
    format!("{},{}", &text[..end], &text[start..])
}

#[test]
fn a_body_without_a_length_is_limited_too() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--max-body-bytes", "1KiB"]);
    let batch = Batch::of(&["{}"]);
    let head = batch.head("Transfer-Encoding: chunked");
    let mut client = TcpStream::connect(gateway.address).unwrap();
    client.write_all(head.as_bytes()).unwrap();
    let chunk = format!("800\r\n{}\r\n", " ".repeat(0x800));
    client.write_all(chunk.as_bytes()).unwrap();
    let mut start = [0; 12];
    client.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 413");
}

#[test]
fn an_outcome_query_needs_a_device_and_a_batch_id() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let (batch, device) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
    let cases: [(&str, Pairs<'_>, &str); 3] = [
        (&batch, &[], "x-sync-device-id is missing"),
        (&batch, &[("x-sync-device-id", "me")], "x-sync-device-id is `me`"),
        ("seven", &[("x-sync-device-id", &device)], "`seven` is not a batch id"),
    ];
    for (id, headers, message) in cases {
        let path = format!("{BATCH_PATH}/{id}");
        let response = gateway.send(Method::GET, &path, headers, Vec::new());
        assert_eq!((response.status, response.code().as_str()), (400, "INVALID_REQUEST"));
        assert!(response.error().1.contains(message), "{}", response.text());
    }
}

#[test]
fn other_paths_and_methods_are_rejected_in_the_same_format() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &["--path", "/sync/"]);
    let batch = Batch::of(&["{}"]);
    let headers = batch.headers();
    let headers = borrow_headers(&headers);
    let send = |method, path: &str| gateway.send(method, path, &headers, batch.body());
    send(Method::POST, "/sync").batch();
    assert_eq!(send(Method::POST, BATCH_PATH).code(), "NOT_FOUND");
    let wrong = send(Method::PUT, "/sync");
    assert_eq!((wrong.status, wrong.code().as_str()), (405, "METHOD_NOT_ALLOWED"));
    assert_eq!(wrong.header("allow"), "POST");
}

#[test]
fn if_a_token_is_required_no_request_passes_without_it() {
    let directory = directory();
    let token_file = directory.path().join("token");
    fs::write(&token_file, "s3cret-token\n").unwrap();
    let gateway = Gateway::start(directory.path(), &["--token-file", token_file.to_str().unwrap()]);
    let batch = Batch::of(&["{}"]);
    let device = batch.device.to_string();
    let look_up = format!("{BATCH_PATH}/{}", batch.id);
    let try_all = |authorization: Option<&str>| -> Vec<HttpResponse> {
        [(Method::POST, BATCH_PATH), (Method::GET, look_up.as_str()), (Method::GET, "/ledger")]
            .map(|(method, path)| {
                let mut headers = batch.headers();
                headers.push(("x-sync-device-id".into(), device.clone()));
                headers.dedup();
                if let Some(authorization) = authorization {
                    headers.push(("authorization".into(), authorization.into()));
                }
                let headers = borrow_headers(&headers);
                let body = if method == Method::POST { batch.body() } else { Vec::new() };
                gateway.send(method, path, &headers, body)
            })
            .into()
    };
    for wrong in [None, Some("Bearer s3cret"), Some("Bearer "), Some("Basic s3cret-token")] {
        for response in try_all(wrong) {
            assert_eq!((response.status, response.code().as_str()), (401, "UNAUTHORIZED"));
            assert_eq!(response.header("www-authenticate"), "Bearer");
        }
    }
    let responses = try_all(Some("Bearer s3cret-token"));
    assert!(responses.iter().all(|response| response.status == 200), "{responses:?}");
    assert_eq!(gateway.get("/healthz").status, 200);
    assert_eq!(gateway.get("/metrics").status, 200);
}
