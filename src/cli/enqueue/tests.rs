//! The whole command against a scripted daemon.

use std::collections::HashSet;
use std::io::Write;

use indicatif::ProgressBar;
use tempfile::NamedTempFile;

use super::super::context::NoteWriter;
use super::super::failure::InputPlace;
use super::super::testing;
use super::*;
use crate::api::Accepted;
use crate::client::scripted::{ScriptStep, ScriptedDaemon, response_step};

fn temp_file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn ndjson_records(number: usize) -> String {
    let line = |n| format!("{{\"type\":\"T\",\"payload\":{{\"n\": {n}}}}}\n");
    (1..=number).map(line).collect()
}

fn accepted_response(accepted: u64, duplicates: u64) -> ScriptStep {
    let body = format!("{{\"accepted\":{accepted},\"duplicates\":{duplicates},\"ids\":[]}}");
    response_step(201, &body)
}

async fn run_enqueue(
    daemon: &ScriptedDaemon,
    json: bool,
    file: &NamedTempFile,
    retry_for: Duration,
) -> (Result<u8, CommandFailure>, String) {
    let args =
        EnqueueArgs { record_type: None, key_field: None, retry_for, files: vec![file.path().to_owned()] };
    testing::run_verb(daemon, json, async |context| super::enqueue_files(&args, None, context).await).await
}

const RETRY_TIMEOUT: Duration = Duration::from_mins(1);

#[tokio::test]
async fn records_are_sent_in_chunks_with_generated_ids() {
    let daemon = ScriptedDaemon::new(vec![accepted_response(500, 0), accepted_response(101, 0)]);
    let (code, text) = run_enqueue(&daemon, true, &temp_file(&ndjson_records(601)), RETRY_TIMEOUT).await;
    assert_eq!(code, Ok(0));
    let response: Accepted = serde_json::from_str(&text).unwrap();
    assert_eq!((response.accepted, response.duplicates), (601, 0));
    assert_eq!(response.ids.iter().collect::<HashSet<_>>().len(), 601);
    let calls = daemon.into_calls();
    let sent: String = calls.iter().map(|call| str::from_utf8(&call.body).unwrap()).collect();
    for (n, (line, id)) in sent.lines().zip(&response.ids).enumerate() {
        let payload = format!("{{\"n\": {}}}", n + 1);
        assert_eq!(line, format!("{{\"id\":\"{id}\",\"type\":\"T\",\"payload\":{payload}}}"));
    }
}

#[tokio::test]
async fn a_mistake_in_a_late_line_stores_nothing() {
    let daemon = ScriptedDaemon::new(Vec::new());
    let file = temp_file(&format!("{}{{\"type\":\"T\"}}\n", ndjson_records(4999)));
    let (code, _) = run_enqueue(&daemon, false, &file, RETRY_TIMEOUT).await;
    let failure = code.unwrap_err();
    assert_eq!(failure.exit, exit::REFUSED);
    let expected = format!(
        "{}:5000: `payload` is missing (column 12). Nothing was stored. Correct the line, and enqueue the whole input again.",
        file.path().display()
    );
    assert_eq!(failure.message, expected);
}

#[tokio::test]
async fn a_lost_chunk_is_sent_again_unchanged() {
    let daemon = ScriptedDaemon::new(vec![
        ScriptStep::HangUp,
        accepted_response(0, 500),
        ScriptStep::HangUp,
        response_step(503, ""),
        accepted_response(100, 0),
    ]);
    let (code, text) = run_enqueue(&daemon, false, &temp_file(&ndjson_records(600)), RETRY_TIMEOUT).await;
    assert_eq!(code, Ok(0));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 12, "{text}");
    assert_eq!(lines[10..], ["and 590 more", "Enqueued 600 records (0 duplicates)"]);
    let calls = daemon.into_calls();
    assert_eq!(calls[0].body, calls[1].body);
    assert_eq!(calls[2].body, calls[4].body);
}

#[tokio::test]
async fn without_a_daemon_it_fails_at_once() {
    let daemon = ScriptedDaemon::new(vec![response_step(200, "{}")]);
    let client = crate::client::Client::new(daemon.socket());
    client.get("/v1/status").await.unwrap();
    let socket = daemon.socket();
    daemon.into_calls();
    let client = crate::client::Client::new(socket);
    let names = ["input".to_owned()];
    let notes = NoteWriter { json: false };
    let mut sender = ChunkSender::new(&client, RETRY_TIMEOUT, &names, notes, ProgressBar::hidden());
    let rules = InputRules::new(None, None).unwrap();
    let mut sources = [InputSource::open(temp_file(&ndjson_records(1)).path(), notes).unwrap()];
    let failure = send_all(&rules, &mut sources, &mut sender, &mut IdsOutput::Text(FirstIds::default()))
        .await
        .unwrap_err();
    assert_eq!(failure.exit, exit::NO_DAEMON);
    assert!(failure.message.starts_with("no daemon responds at"), "{}", failure.message);
}

#[tokio::test]
async fn a_daemon_that_stays_away_is_reported_with_the_line_to_continue_from() {
    let daemon = ScriptedDaemon::new(vec![accepted_response(500, 0), ScriptStep::HangUp]);
    let file = temp_file(&ndjson_records(600));
    let (code, _) = run_enqueue(&daemon, false, &file, Duration::from_millis(50)).await;
    let failure = code.unwrap_err();
    assert_eq!(failure.exit, exit::NO_DAEMON);
    let name = file.path().display();
    for part in [
        "did not come back within 50ms.",
        &format!("500 records up to {name} line 500 are safely stored; continue from line 501."),
        &format!("It is not known whether {name} lines 501 to 600 arrived"),
    ] {
        assert!(failure.message.contains(part), "{}", failure.message);
    }
}

#[tokio::test]
async fn refusals_name_the_line_and_a_full_queue_has_its_own_exit_code() {
    let refusal = |status, position| {
        let body =
            format!("{{\"error\":{{\"code\":\"c\",\"message\":\"too large\",\"position\":{position}}}}}");
        response_step(status, &body)
    };
    let daemon = ScriptedDaemon::new(vec![
        refusal(413, 2),
        accepted_response(500, 0),
        refusal(409, 3),
        refusal(507, 1),
    ]);
    let file = temp_file(&format!("\n\n{}", ndjson_records(600)));
    let name = file.path().display();
    let (code, _) = run_enqueue(&daemon, false, &file, RETRY_TIMEOUT).await;
    let at = |line| Some(InputPlace { file: name.to_string(), line });
    let expected = format!("{name}:4: too large. Nothing was stored.");
    assert_eq!(code, Err(CommandFailure::new(exit::REFUSED, expected).with_code("c").with_place(at(4))));
    let (code, text) = run_enqueue(&daemon, true, &file, RETRY_TIMEOUT).await;
    let expected = format!(
        "{name}:505: too large. 500 records up to {name} line 502 are safely stored; continue from line 503."
    );
    assert_eq!(code, Err(CommandFailure::new(exit::FAILED, expected).with_code("c").with_place(at(505))));
    let stored: Accepted = serde_json::from_str(&text).unwrap();
    assert_eq!((stored.accepted, stored.ids.len()), (500, 500));
    assert_eq!(run_enqueue(&daemon, false, &file, RETRY_TIMEOUT).await.0.unwrap_err().exit, exit::FULL);
}

#[tokio::test]
async fn indented_payloads_keep_their_line_ends() {
    let payload = "{\n  \"a\": 1\n}";
    let daemon = ScriptedDaemon::new(vec![accepted_response(2, 0)]);
    let record = format!("{{\n\"type\": \"T\", \"payload\": {payload}}}");
    let (code, _) =
        run_enqueue(&daemon, false, &temp_file(&format!("[{record},\n{record}]")), RETRY_TIMEOUT).await;
    assert_eq!(code, Ok(0));
    let call = daemon.into_calls().remove(0);
    assert!(call.head.to_ascii_lowercase().contains("content-type: application/json"), "{}", call.head);
    let body = String::from_utf8(call.body).unwrap();
    assert_eq!(body.matches(payload).count(), 2);
    assert_eq!(serde_json::from_str::<Vec<serde_json::Value>>(&body).unwrap().len(), 2);
}

fn refusal_response(status: u16, code: &str, message: &str) -> ScriptStep {
    response_step(status, &format!("{{\"error\":{{\"code\":\"{code}\",\"message\":\"{message}\"}}}}"))
}

#[tokio::test]
async fn for_an_array_the_number_of_stored_records_is_reported() {
    let record = "{\"type\":\"T\",\"payload\":{}}";
    for between in [",", ",\n  ", ",\n\n"] {
        let full = refusal_response(507, "queue_full", "the queue is full; nothing was stored");
        let daemon = ScriptedDaemon::new(vec![accepted_response(500, 0), full]);
        let file = temp_file(&format!("[{}]", [record; 600].join(between)));
        let failure = run_enqueue(&daemon, false, &file, RETRY_TIMEOUT).await.0.unwrap_err();
        let name = file.path().display();
        for part in [
            &format!("{name} records 501 to 600: the queue is full; none of these was stored."),
            &format!(" 500 records are safely stored: the first 500 of {name}; leave those out when you"),
        ] {
            assert!(failure.message.contains(part), "{}", failure.message);
        }
        assert!(!failure.message.contains("continue from line"), "{}", failure.message);
    }
}

#[tokio::test]
async fn records_stored_by_a_stopping_daemon_are_not_duplicates() {
    let daemon = ScriptedDaemon::new(vec![
        refusal_response(503, "stopping", "the daemon ends"),
        accepted_response(0, 10),
    ]);
    let (code, text) = run_enqueue(&daemon, false, &temp_file(&ndjson_records(10)), RETRY_TIMEOUT).await;
    assert_eq!((code, text.lines().count()), (Ok(0), 11));
    assert!(text.ends_with("\nEnqueued 10 records (0 duplicates)\n"), "{text}");
}

#[tokio::test]
async fn nothing_was_stored_is_reported_only_if_it_is_certain() {
    let conflict = || refusal_response(409, "id_conflict", "another record has this id");
    for (script, exit) in [
        (vec![refusal_response(500, "internal", "a bug")], exit::FAILED),
        (vec![response_step(201, "what is this")], exit::FAILED),
        (vec![ScriptStep::HangUp, conflict()], exit::FAILED),
        (vec![refusal_response(503, "stopping", "the daemon ends"), conflict()], exit::FAILED),
    ] {
        let failure =
            run_enqueue(&ScriptedDaemon::new(script), false, &temp_file(&ndjson_records(10)), RETRY_TIMEOUT)
                .await
                .0
                .unwrap_err();
        assert_eq!(failure.exit, exit, "{failure:?}");
        assert!(!failure.message.contains("Nothing was stored"), "{}", failure.message);
        assert!(failure.message.contains("It is not known whether"), "{}", failure.message);
    }
    let full = vec![refusal_response(507, "disk_full", "the disk is full")];
    let failure =
        run_enqueue(&ScriptedDaemon::new(full), false, &temp_file(&ndjson_records(10)), RETRY_TIMEOUT)
            .await
            .0
            .unwrap_err();
    assert_eq!(failure.exit, exit::FULL);
    assert!(failure.message.ends_with("Nothing was stored."), "{}", failure.message);
}

#[tokio::test]
async fn a_chunk_that_is_too_large_is_sent_in_halves() {
    let too_large = || refusal_response(413, "request_too_large", "send fewer");
    let daemon = ScriptedDaemon::new(vec![
        too_large(),
        accepted_response(250, 0),
        accepted_response(250, 0),
        accepted_response(100, 0),
    ]);
    let (code, text) = run_enqueue(&daemon, true, &temp_file(&ndjson_records(600)), RETRY_TIMEOUT).await;
    assert_eq!(code, Ok(0));
    let response: Accepted = serde_json::from_str(&text).unwrap();
    assert_eq!((response.accepted, response.ids.len()), (600, 600));
    let sent: Vec<u8> = daemon.into_calls().into_iter().skip(1).flat_map(|call| call.body).collect();
    let sent = String::from_utf8(sent).unwrap();
    for (n, (line, id)) in sent.lines().zip(&response.ids).enumerate() {
        let n = n + 1;
        assert_eq!(line, format!("{{\"id\":\"{id}\",\"type\":\"T\",\"payload\":{{\"n\": {n}}}}}"));
    }
    assert_eq!(sent.lines().count(), 600);
    let indented = "{\n\"type\": \"T\", \"payload\": {\n  \"a\": 1\n}}";
    let daemon = ScriptedDaemon::new(vec![too_large(), accepted_response(1, 0), accepted_response(2, 0)]);
    let file = temp_file(&format!("[{}]", [indented; 3].join(",")));
    assert_eq!(run_enqueue(&daemon, false, &file, RETRY_TIMEOUT).await.0, Ok(0));
    let counts = daemon
        .into_calls()
        .into_iter()
        .map(|call| serde_json::from_slice::<Vec<serde_json::Value>>(&call.body).unwrap().len());
    assert_eq!(counts.collect::<Vec<_>>(), [3, 1, 2]);
}
