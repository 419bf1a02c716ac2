//! The whole verb against a daemon that follows a script.

use std::collections::HashSet;
use std::io::Write;

use indicatif::ProgressBar;
use tempfile::NamedTempFile;

use super::super::context::Notes;
use super::super::failure::Place;
use super::super::testing;
use super::*;
use crate::api::Accepted;
use crate::client::scripted::{Scripted, Step, answer_step};

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn records(number: usize) -> String {
    let line = |n| format!("{{\"type\":\"T\",\"payload\":{{\"n\": {n}}}}}\n");
    (1..=number).map(line).collect()
}

fn accepted(accepted: u64, duplicates: u64) -> Step {
    let body = format!("{{\"accepted\":{accepted},\"duplicates\":{duplicates},\"ids\":[]}}");
    answer_step(201, &body)
}

async fn enqueue(
    daemon: &Scripted,
    json: bool,
    file: &NamedTempFile,
    retry_for: Duration,
) -> (Result<u8, Failure>, String) {
    let args = Args { record_type: None, key_field: None, retry_for, files: vec![file.path().to_owned()] };
    testing::run(daemon, json, async |context| super::enqueue(&args, None, context).await).await
}

const PATIENT: Duration = Duration::from_mins(1);

#[tokio::test]
async fn records_go_out_in_chunks_with_ids_of_their_own() {
    let daemon = Scripted::new(vec![accepted(500, 0), accepted(101, 0)]);
    let (code, text) = enqueue(&daemon, true, &file(&records(601)), PATIENT).await;
    assert_eq!(code, Ok(0));
    let answer: Accepted = serde_json::from_str(&text).unwrap();
    assert_eq!((answer.accepted, answer.duplicates), (601, 0));
    assert_eq!(answer.ids.iter().collect::<HashSet<_>>().len(), 601);
    let calls = daemon.into_calls();
    let sent: String = calls.iter().map(|call| str::from_utf8(&call.body).unwrap()).collect();
    for (n, (line, id)) in sent.lines().zip(&answer.ids).enumerate() {
        let payload = format!("{{\"n\": {}}}", n + 1);
        assert_eq!(line, format!("{{\"id\":\"{id}\",\"type\":\"T\",\"payload\":{payload}}}"));
    }
}

#[tokio::test]
async fn a_mistake_in_a_late_line_stores_nothing() {
    let daemon = Scripted::new(Vec::new());
    let file = file(&format!("{}{{\"type\":\"T\"}}\n", records(4999)));
    let (code, _) = enqueue(&daemon, false, &file, PATIENT).await;
    let failure = code.unwrap_err();
    assert_eq!(failure.exit, exit::REFUSED);
    let expected = format!(
        "{}:5000: missing field `payload` (column 12). Nothing was stored. Correct the line, and enqueue all of it again.",
        file.path().display()
    );
    assert_eq!(failure.message, expected);
}

#[tokio::test]
async fn a_chunk_that_was_lost_is_sent_again_as_it_was() {
    let daemon = Scripted::new(vec![
        Step::HangUp,
        accepted(0, 500),
        Step::HangUp,
        answer_step(503, ""),
        accepted(100, 0),
    ]);
    let (code, text) = enqueue(&daemon, false, &file(&records(600)), PATIENT).await;
    assert_eq!(code, Ok(0));
    assert_eq!(text, "Enqueued 600 records (0 duplicates)\n");
    let calls = daemon.into_calls();
    assert_eq!(calls[0].body, calls[1].body);
    assert_eq!(calls[2].body, calls[4].body);
}

#[tokio::test]
async fn without_a_daemon_nothing_is_waited_for() {
    let daemon = Scripted::new(vec![answer_step(200, "{}")]);
    let client = crate::client::Client::new(daemon.socket());
    client.get("/v1/status").await.unwrap();
    let socket = daemon.socket();
    daemon.into_calls();
    let client = crate::client::Client::new(socket);
    let names = ["input".to_owned()];
    let notes = Notes { json: false };
    let mut sender = Sender::new(&client, PATIENT, &names, notes, ProgressBar::hidden());
    let rules = Rules::new(None, None).unwrap();
    let mut sources = [Source::open(file(&records(1)).path(), notes).unwrap()];
    let failure = send_all(&rules, &mut sources, &mut sender, None).await.unwrap_err();
    assert_eq!(failure.exit, exit::NO_DAEMON);
    assert!(failure.message.starts_with("no daemon answers at"), "{}", failure.message);
}

#[tokio::test]
async fn a_daemon_that_stays_away_is_given_up_with_a_place_to_continue() {
    let daemon = Scripted::new(vec![accepted(500, 0), Step::HangUp]);
    let file = file(&records(600));
    let (code, _) = enqueue(&daemon, false, &file, Duration::from_millis(50)).await;
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
async fn refusals_name_the_line_and_fullness_has_its_own_code() {
    let refusal = |status, position| {
        let body =
            format!("{{\"error\":{{\"code\":\"c\",\"message\":\"too large\",\"position\":{position}}}}}");
        answer_step(status, &body)
    };
    let daemon = Scripted::new(vec![refusal(413, 2), accepted(500, 0), refusal(409, 3), refusal(507, 1)]);
    let file = file(&format!("\n\n{}", records(600)));
    let name = file.path().display();
    let (code, _) = enqueue(&daemon, false, &file, PATIENT).await;
    let at = |line| Some(Place { file: name.to_string(), line });
    let expected = format!("{name}:4: too large. Nothing was stored.");
    assert_eq!(code, Err(Failure::new(exit::REFUSED, expected).coded("c").at(at(4))));
    let (code, text) = enqueue(&daemon, true, &file, PATIENT).await;
    let expected = format!(
        "{name}:505: too large. 500 records up to {name} line 502 are safely stored; continue from line 503."
    );
    assert_eq!(code, Err(Failure::new(exit::FAILED, expected).coded("c").at(at(505))));
    let stored: Accepted = serde_json::from_str(&text).unwrap();
    assert_eq!((stored.accepted, stored.ids.len()), (500, 500));
    assert_eq!(enqueue(&daemon, false, &file, PATIENT).await.0.unwrap_err().exit, exit::FULL);
}

#[tokio::test]
async fn indented_payloads_keep_their_line_ends() {
    let payload = "{\n  \"a\": 1\n}";
    let daemon = Scripted::new(vec![accepted(2, 0)]);
    let record = format!("{{\n\"type\": \"T\", \"payload\": {payload}}}");
    let (code, _) = enqueue(&daemon, false, &file(&format!("[{record},\n{record}]")), PATIENT).await;
    assert_eq!(code, Ok(0));
    let call = daemon.into_calls().remove(0);
    assert!(call.head.to_ascii_lowercase().contains("content-type: application/json"), "{}", call.head);
    let body = String::from_utf8(call.body).unwrap();
    assert_eq!(body.matches(payload).count(), 2);
    assert_eq!(serde_json::from_str::<Vec<serde_json::Value>>(&body).unwrap().len(), 2);
}

fn refusal(status: u16, code: &str, message: &str) -> Step {
    answer_step(status, &format!("{{\"error\":{{\"code\":\"{code}\",\"message\":\"{message}\"}}}}"))
}

#[tokio::test]
async fn of_an_array_it_is_told_how_many_of_its_records_are_stored() {
    let record = "{\"type\":\"T\",\"payload\":{}}";
    for between in [",", ",\n  ", ",\n\n"] {
        let full = refusal(507, "queue_full", "the queue is full; nothing was stored");
        let daemon = Scripted::new(vec![accepted(500, 0), full]);
        let file = file(&format!("[{}]", [record; 600].join(between)));
        let failure = enqueue(&daemon, false, &file, PATIENT).await.0.unwrap_err();
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
async fn what_a_daemon_that_was_ending_had_stored_is_no_duplicate() {
    let daemon = Scripted::new(vec![refusal(503, "stopping", "the daemon ends"), accepted(0, 10)]);
    let (code, text) = enqueue(&daemon, false, &file(&records(10)), PATIENT).await;
    assert_eq!((code, text.as_str()), (Ok(0), "Enqueued 10 records (0 duplicates)\n"));
}

#[tokio::test]
async fn that_nothing_was_stored_is_said_only_where_it_is_known() {
    let conflict = || refusal(409, "id_conflict", "another record has this id");
    for (script, exit) in [
        (vec![refusal(500, "internal", "a bug")], exit::FAILED),
        (vec![answer_step(201, "what is this")], exit::FAILED),
        (vec![Step::HangUp, conflict()], exit::FAILED),
        (vec![refusal(503, "stopping", "the daemon ends"), conflict()], exit::FAILED),
    ] {
        let failure =
            enqueue(&Scripted::new(script), false, &file(&records(10)), PATIENT).await.0.unwrap_err();
        assert_eq!(failure.exit, exit, "{failure:?}");
        assert!(!failure.message.contains("Nothing was stored"), "{}", failure.message);
        assert!(failure.message.contains("It is not known whether"), "{}", failure.message);
    }
    let full = vec![refusal(507, "disk_full", "the disk is full")];
    let failure = enqueue(&Scripted::new(full), false, &file(&records(10)), PATIENT).await.0.unwrap_err();
    assert_eq!(failure.exit, exit::FULL);
    assert!(failure.message.ends_with("Nothing was stored."), "{}", failure.message);
}

#[tokio::test]
async fn a_chunk_that_is_too_large_for_the_daemon_goes_in_halves() {
    let too_large = || refusal(413, "request_too_large", "send fewer");
    let daemon = Scripted::new(vec![too_large(), accepted(250, 0), accepted(250, 0), accepted(100, 0)]);
    let (code, text) = enqueue(&daemon, true, &file(&records(600)), PATIENT).await;
    assert_eq!(code, Ok(0));
    let answer: Accepted = serde_json::from_str(&text).unwrap();
    assert_eq!((answer.accepted, answer.ids.len()), (600, 600));
    let sent: Vec<u8> = daemon.into_calls().into_iter().skip(1).flat_map(|call| call.body).collect();
    let sent = String::from_utf8(sent).unwrap();
    for (n, (line, id)) in sent.lines().zip(&answer.ids).enumerate() {
        let n = n + 1;
        assert_eq!(line, format!("{{\"id\":\"{id}\",\"type\":\"T\",\"payload\":{{\"n\": {n}}}}}"));
    }
    assert_eq!(sent.lines().count(), 600);
    let indented = "{\n\"type\": \"T\", \"payload\": {\n  \"a\": 1\n}}";
    let daemon = Scripted::new(vec![too_large(), accepted(1, 0), accepted(2, 0)]);
    let file = file(&format!("[{}]", [indented; 3].join(",")));
    assert_eq!(enqueue(&daemon, false, &file, PATIENT).await.0, Ok(0));
    let counts = daemon
        .into_calls()
        .into_iter()
        .map(|call| serde_json::from_slice::<Vec<serde_json::Value>>(&call.body).unwrap().len());
    assert_eq!(counts.collect::<Vec<_>>(), [3, 1, 2]);
}
