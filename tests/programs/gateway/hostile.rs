//! Requests that are made to cost much: none costs more than a bounded part of the gateway, and the next honest batch is
//! applied.

use std::io::Write;

use fieldsync::protocol::wire::RecordStatus;
use uuid::Uuid;

use crate::support::device::{Batch, Record};
use crate::support::gateway::Gateway;
use crate::support::http::{HttpResponse, statuses};
use crate::support::wait::directory;

/// The default of `max_body_bytes`.
const BODY_BYTES_MAX: usize = 8 << 20;
/// Far more than the gateway needs, and far less than any of the bodies here would need.
const RESIDENT_BYTES_MAX: u64 = 200 << 20;

fn post_encoded(gateway: &Gateway, encoding: &str, body: Vec<u8>) -> HttpResponse {
    let batch = Batch::of(&["{}"]);
    let mut headers = batch.headers();
    headers.push(("content-encoding".into(), encoding.into()));
    gateway.post_raw(&headers, body)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn bodies_that_grow_when_they_are_decoded_are_refused_in_bounded_memory() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let spaces = vec![b' '; 1 << 20];
    // A thousand times 1 MiB, in members or frames of their own.
    let many_members = gzip(&spaces).repeat(1000);
    let many_frames = zstd::encode_all(spaces.as_slice(), 19).unwrap().repeat(1000);
    // No content, twenty thousand times.
    let empty_members = gzip(b"").repeat(20_000);
    let empty_frames = zstd::encode_all(&b""[..], 1).unwrap().repeat(20_000);
    let mut wide = zstd::Encoder::new(Vec::new(), 1).unwrap();
    wide.window_log(27).unwrap();
    wide.include_contentsize(false).unwrap();
    wide.write_all(&spaces).unwrap();
    let wide_window = wide.finish().unwrap();
    for (encoding, body, code) in [
        ("gzip", many_members, "BODY_TOO_LARGE"),
        ("zstd", many_frames, "BODY_TOO_LARGE"),
        ("gzip", empty_members, "INVALID_REQUEST"),
        ("zstd", empty_frames, "INVALID_REQUEST"),
        ("zstd", wide_window, "INVALID_REQUEST"),
    ] {
        assert!(body.len() <= BODY_BYTES_MAX, "{}", body.len());
        let refused = post_encoded(&gateway, encoding, body);
        assert_eq!(refused.code(), code, "{encoding}");
    }
    assert!(gateway.metric("process_resident_memory_bytes") < RESIDENT_BYTES_MAX);
    gateway.post(&Batch::of(&["{}"])).batch();
}

#[test]
fn records_without_number_and_depth_are_refused() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let many = Batch::with((0..10_001).map(|_| Record::new("{}")).collect());
    let refused = gateway.post(&many);
    assert_eq!((refused.status, refused.code().as_str()), (413, "TOO_MANY_RECORDS"));
    assert_eq!(refused.header("x-sync-max-records"), "10000");

    let nested = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    let batch = Batch::of(&[&nested(100), &nested(101), &nested(100_000)]);
    let response = gateway.post(&batch).batch();
    assert_eq!(statuses(&response), [RecordStatus::Applied, RecordStatus::Rejected, RecordStatus::Rejected]);
    // Outside of a payload.
    let text = String::from_utf8(Batch::of(&["{}"]).body()).unwrap();
    let deep = text.replacen("\"records\"", &format!("\"x\":{},\"records\"", nested(100_000)), 1);
    assert_eq!(gateway.post_raw(&Batch::of(&["{}"]).headers(), deep.into_bytes()).status, 400);
    gateway.post(&Batch::of(&["{}"])).batch();
}

#[test]
fn hostile_headers_are_refused_and_not_repeated_at_length() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let long = "x".repeat(20_000);
    for (name, value) in [
        ("x-sync-batch-id", long.as_str()),
        ("x-sync-device-id", long.as_str()),
        ("x-batch-sequence", "99999999999999999999/99999999999999999999"),
        ("x-sync-attempt", "18446744073709551616"),
        ("content-encoding", long.as_str()),
    ] {
        let batch = Batch::of(&["{}"]);
        let mut headers = batch.headers();
        headers.retain(|header| header.0 != name);
        headers.push((name.into(), value.into()));
        let refused = gateway.post_raw(&headers, batch.body());
        assert!([400, 415].contains(&refused.status), "{name}: {}", refused.status);
        assert!(refused.body.len() < 1000, "{name}");
    }
    // Twice the same header: neither is taken for the other.
    let batch = Batch::of(&["{}"]);
    let mut headers = batch.headers();
    headers.push(("x-sync-device-id".into(), Uuid::new_v4().to_string()));
    assert!(gateway.post_raw(&headers, batch.body()).status < 500);
    let mut named = Batch::of(&["{}"]);
    let mut headers = named.headers();
    headers.push(("x-sync-device-name".into(), long));
    assert_eq!(gateway.post_raw(&headers, named.body()).status, 200);
    named = Batch::of(&["{}"]);
    gateway.post(&named).batch();
}
