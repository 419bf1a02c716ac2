//! A destination that takes all or nothing, played by a thread, for what the stand-in does not do.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::NamedTempFile;

use super::super::driver::HttpDestination;
use super::super::mapping_check::parse_mapping;
use super::super::reload_cache::ReloadCache;
use super::super::token_budget::LocalTokenBudget;
use super::support::{decode, receipt_member, refusal, test_record};
use crate::destination::{Destination, DestinationCondition, Verdict, collect_verdicts};
use crate::validated_batch::ValidatedRecord;

/// As Dataverse takes several records: all or nothing, and 204 without a body.
pub(super) const ATOMIC_MAPPING: &str = r#"
api = "http://127.0.0.1:9"
method = "POST"
url = "{api}/{module}/Microsoft.Dynamics.CRM.UpsertMultiple"
max_records = 100
atomic = true

[wrap]
name = "Targets"

[record]
key_in_body = false
constants = { "@odata.id" = "{module}({id_field}='{id}')" }

[call_error]
paths = ["/error"]
code = "/code"
message = "/message"

[codes]
other = "rejected"

[auth]
kind = "bearer-file"
credentials = { token_file = "token" }

[[type]]
name = "Accounts"
module = "accounts"
id_field = "sync_id"
"#;

/// Answers each request on `listener`, and sends its body on.
pub(super) fn serve(listener: &TcpListener, bodies: &Sender<String>, answer: impl Fn(&str, &str) -> String) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return };
        let Some((head, body)) = read_request(&stream) else { continue };
        let text = answer(&head, &body);
        if bodies.send(body).is_err() || stream.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

fn read_request(stream: &TcpStream) -> Option<(String, String)> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let mut lengths = head
        .lines()
        .filter_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; lengths.next().unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some((head, String::from_utf8(body).ok()?))
}

pub(super) struct CannedDestination {
    pub(super) destination: HttpDestination,
    bodies: Receiver<String>,
    token_file: NamedTempFile,
}

impl CannedDestination {
    fn new(answer: fn(&str, &str) -> &'static str) -> Self {
        Self::with_mapping(ATOMIC_MAPPING, move |head, body| answer(head, body).to_owned())
    }

    pub(super) fn with_mapping(
        mapping: &str,
        answer: impl Fn(&str, &str) -> String + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut mapping = parse_mapping(mapping).unwrap();
        mapping.api = Some(format!("http://{}", listener.local_addr().unwrap()));
        let token_file = NamedTempFile::new().unwrap();
        fs::write(token_file.path(), "first\n").unwrap();
        mapping.auth.credentials.token_file = Some(token_file.path().into());
        let (sender, bodies) = channel();
        thread::spawn(move || serve(&listener, &sender, answer));
        let destination =
            HttpDestination::new(mapping, &ReloadCache::new(Arc::new(LocalTokenBudget::new()))).unwrap();
        Self { destination, bodies, token_file }
    }

    pub(super) fn deliver(&self, records: &[ValidatedRecord]) -> Vec<Verdict> {
        let records: Vec<&ValidatedRecord> = records.iter().collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(collect_verdicts(&self.destination, &records, Duration::from_secs(10)))
    }

    /// How many requests came since the last time.
    pub(super) fn call_count(&self) -> usize {
        self.bodies.try_iter().count()
    }

    /// How many records each request had.
    fn call_sizes(&self) -> Vec<usize> {
        let sizes = self.bodies.try_iter().map(|body| {
            let body: Value = serde_json::from_str(&body).unwrap();
            body["Targets"].as_array().unwrap().len()
        });
        sizes.collect()
    }
}

pub(super) const APPLIED: &str = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
const REFUSED: &str = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 60\r\n\r\n\
    {\"error\": {\"code\": \"0x80040265\", \"message\": \"a bad record\"}}";
const TOO_LARGE: &str = "HTTP/1.1 413 Payload Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

fn records(faulty: &[u128]) -> Vec<ValidatedRecord> {
    let payload =
        |number| if faulty.contains(&number) { r#"{"name": "faulty"}"# } else { r#"{"name": "good"}"# };
    (1..=16).map(|number| test_record(number, "Accounts", None, payload(number))).collect()
}

#[test]
fn a_refused_call_is_halved_until_the_faulty_records_are_alone() {
    let crm = CannedDestination::new(|_, body| if body.contains("faulty") { REFUSED } else { APPLIED });
    let verdicts = crm.deliver(&records(&[5, 12]));
    for (number, verdict) in (1..).zip(&verdicts) {
        if [5, 12].contains(&number) {
            assert_eq!(refusal(verdict), ("0x80040265", true), "{number}");
        } else {
            assert_eq!(receipt_member(verdict, "module"), "accounts");
        }
    }
    assert!(crm.call_sizes().len() <= 17);
}

#[test]
fn a_call_that_is_too_large_is_halved_and_later_ones_are_smaller() {
    let crm =
        CannedDestination::new(|_, body| if body.matches("name").count() > 3 { TOO_LARGE } else { APPLIED });
    assert!(crm.deliver(&records(&[])).iter().all(Verdict::is_applied));
    crm.call_sizes();
    assert!(crm.deliver(&records(&[])).iter().all(Verdict::is_applied));
    assert!(crm.call_sizes().iter().all(|records| *records <= 4));
}

#[test]
fn a_record_is_too_large_on_its_own_only_if_others_pass() {
    let crm = CannedDestination::new(|_, body| if body.contains("faulty") { TOO_LARGE } else { APPLIED });
    for (number, verdict) in (1..).zip(crm.deliver(&records(&[1, 16]))) {
        assert!(if [1, 16].contains(&number) {
            refusal(&verdict) == ("TOO_LARGE", true)
        } else {
            verdict.is_applied()
        });
    }
    let crm = CannedDestination::new(|_, _| TOO_LARGE);
    let verdicts = crm.deliver(&records(&[]));
    assert!(verdicts.iter().all(|verdict| refusal(verdict) == ("DESTINATION_STOPPED", false)));
}

#[test]
fn only_json_or_nothing_confirms_a_call_without_results() {
    let mapping = parse_mapping(ATOMIC_MAPPING).unwrap();
    for (body, is_applied) in [("", true), ("{\"ok\": 1}", true), ("<html>a captive portal</html>", false)] {
        let decoded = decode(&mapping, 200, body.as_bytes(), 1);
        assert_eq!(decoded.is_ok(), is_applied, "{body}");
    }
}

#[test]
fn a_token_file_is_read_again_when_the_token_is_refused() {
    let crm =
        CannedDestination::new(|head, _| if head.contains("Bearer second") { APPLIED } else { UNAUTHORIZED });
    assert!(
        crm.deliver(&records(&[])).iter().all(|verdict| refusal(verdict) == ("DESTINATION_STOPPED", false))
    );
    assert!(matches!(crm.destination.condition(), DestinationCondition::Stopped { .. }));
    let crm =
        CannedDestination::new(|head, _| if head.contains("Bearer second") { APPLIED } else { UNAUTHORIZED });
    crm.deliver(&[]);
    fs::write(crm.token_file.path(), "second").unwrap();
    assert!(crm.deliver(&records(&[])).iter().all(Verdict::is_applied));
    assert_eq!(crm.destination.condition(), DestinationCondition::Ready);
}

#[test]
fn records_wait_while_there_is_no_connection() {
    let mut mapping = parse_mapping(ATOMIC_MAPPING).unwrap();
    let token_file = NamedTempFile::new().unwrap();
    fs::write(token_file.path(), "token").unwrap();
    mapping.auth.credentials.token_file = Some(token_file.path().into());
    let destination =
        HttpDestination::new(mapping, &ReloadCache::new(Arc::new(LocalTokenBudget::new()))).unwrap();
    let record = test_record(1, "Accounts", None, "{}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let verdicts = runtime.block_on(collect_verdicts(&destination, &[&record], Duration::from_secs(1)));
    // How many calls fit into the time depends on the machine: after three, the destination counts as unreachable.
    let (code, is_rejected) = refusal(&verdicts[0]);
    assert!(!is_rejected && ["DESTINATION_UNCLEAR", "DESTINATION_BUSY"].contains(&code), "{code}");
}
