//! What the gateway reports about itself: its health and its log.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::support::device::Batch;
use crate::support::gateway::{ANY_PORT, Gateway, command};
use crate::support::postgres::ledger_in;
use crate::support::wait::directory;

#[test]
fn a_gateway_whose_ledger_responds_is_healthy() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    assert_eq!(gateway.get("/healthz").expect_json(200), json!({"status": "ok"}));
}

#[test]
fn the_log_has_a_line_for_each_batch_without_payload_and_token() {
    let directory = directory();
    let token = directory.path().join("token");
    fs::write(&token, "s3cret-token\n").unwrap();
    let log = directory.path().join("log");
    let store = ledger_in(directory.path());
    let gateway = Gateway::start_logging(
        &store,
        &log,
        &["--token-file", token.to_str().unwrap(), "--reject-on", "bad"],
    );
    let batch = Batch::of(&[r#"{"Name":"Erika Mustermann"}"#, r#"{"Name":"bad Mustermann"}"#]);
    let mut headers = batch.headers();
    assert_eq!(gateway.post_raw(&headers, batch.body()).status, 401);
    headers.push(("authorization".into(), "Bearer s3cret-token".into()));
    for _ in 0..2 {
        gateway.post_raw(&headers, batch.body()).batch();
    }
    gateway.signal("TERM");
    assert_eq!(gateway.wait_for_exit().code(), Some(0));

    let log = fs::read_to_string(log).unwrap();
    let id = batch.id.to_string();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(&id)).collect();
    let expected = ["batch refused", "batch settled", "batch replayed"];
    assert_eq!(lines.len(), expected.len(), "{log}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.contains(expected), "{line}");
    }
    assert!(lines[0].contains("UNAUTHORIZED"), "{log}");
    assert!(lines[1].contains("applied=1") && lines[1].contains("rejected=1"), "{log}");
    assert!(log.contains("gateway ready") && log.contains("gateway ending"), "{log}");
    for secret in ["s3cret-token", "Mustermann"] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn lines_that_systemd_collects_for_the_journal_have_their_priority() {
    let directory = directory();
    let log = directory.path().join("log");
    let mut command = command(&ledger_in(directory.path()), ANY_PORT, &[]);
    let file = File::create(&log).unwrap();
    let seen = file.metadata().unwrap();
    command
        .env("JOURNAL_STREAM", format!("{}:{}", seen.dev(), seen.ino()))
        .env_remove("RUST_LOG")
        .stderr(file);
    let gateway = Gateway::start_by(command);
    gateway.post(&Batch::of(&["{}"])).batch();
    gateway.signal("TERM");
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
    let lines = fs::read_to_string(log).unwrap();
    assert!(lines.contains("<6>") && lines.lines().all(|line| line.starts_with('<')), "{lines}");
}
