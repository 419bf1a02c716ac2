//! Each situation of the table in `docs/operations.md`, played with the built programs: the first two lines of
//! `fieldsync status` and `fieldsync show`, systemd's `STATUS=` and the status of the page hold to the table.

use std::process::Command;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::{Value, json};

use crate::process::signals::limited_to;
use crate::support::daemon::{Daemon, Home};
use crate::support::gateway::Gateway;
use crate::support::notify::NotifySocket;
use crate::support::secrets::place;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::user::can_be_others;
use crate::support::wait::{directory, wait_for};
use crate::support::web::{Page, rejecting, with_page};

const MANUAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
/// Nothing listens there.
const REFUSED: &str = "http://127.0.0.1:1";

/// A row of the table: the reason, what the programs say (`…` for any text), and what a person can do.
struct Row {
    reason: String,
    says: String,
    to_do: String,
}

fn rows() -> Vec<Row> {
    let manual = std::fs::read_to_string(MANUAL).unwrap();
    let (_, table) = manual.split_once("## What it says").unwrap();
    let (table, _) = table.split_once("\nRecords are accepted").unwrap();
    let cells = table.lines().filter(|line| line.starts_with("| `")).map(|line| {
        let line = line.replace('`', "");
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    });
    let row = |cells: Vec<String>| {
        let [reason, says, _, to_do]: [String; 4] = cells.try_into().unwrap();
        Row { reason, says, to_do }
    };
    cells.map(row).collect()
}

impl Row {
    fn fits(&self, reason: &Value, text: &str, to_do: Option<&str>) -> bool {
        self.reason == *reason && fits(&self.says, text) && fits(&self.to_do, to_do.unwrap_or("nothing"))
    }
}

/// Whether the parts of a pattern between `…` are in the text, in their order.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts: Vec<&str> = pattern.split('…').collect();
    let (first, last) = (parts.remove(0), parts.pop());
    let Some(last) = last else { return text == first };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

/// A daemon in a situation, as its service manager sees it.
pub(crate) struct Played {
    pub(crate) daemon: Daemon,
    notified: NotifySocket,
    has_page: bool,
}

impl Played {
    pub(crate) fn start(settings: &Settings) -> Self {
        Self::start_by(settings, Home::command)
    }

    pub(crate) fn start_by(settings: &Settings, command: impl FnOnce(&Home) -> Command) -> Self {
        let home = Home::new(&with_page(settings));
        let notified = NotifySocket::new(&home.path(""));
        let mut command = command(&home);
        command.env("NOTIFY_SOCKET", &notified.path);
        Self { daemon: home.start_by(command), notified, has_page: true }
    }

    /// Waits until all programs say what the table says. `cause`: a part of the first line of `show`.
    #[track_caller]
    pub(crate) fn assert_says(&mut self, reason: &str, record: Option<(&str, &str)>) {
        let rows: Vec<Row> = rows().into_iter().filter(|row| row.reason == reason).collect();
        assert!(!rows.is_empty(), "{reason} is in the table");
        let mut said = String::new();
        let clock = fieldsync::clock::Clock::start();
        while !self.says(&rows, record, &mut said) {
            let log = || self.daemon.log();
            assert!(clock.now() < crate::support::wait::DEADLINE, "{reason} is not said: {said}\n{}", log());
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
    }

    /// Whether all say it; `said` is what they say.
    fn says(&mut self, rows: &[Row], record: Option<(&str, &str)>, said: &mut String) -> bool {
        let is_listed = |reason: &Value, text: &str, to_do: Option<&str>| {
            rows.iter().any(|row| row.fits(reason, text, to_do))
        };
        let mut statuses = vec![self.daemon.status()];
        if self.has_page {
            statuses.push(Page::of(&self.daemon).get("/v1/status").expect_json(200));
        }
        let shown = self.daemon.cli(&["status"]).stdout;
        let line = self.notified.received_lines().iter().rev().find_map(|line| line.strip_prefix("STATUS="));
        let line = line.unwrap_or_default().to_owned();
        let record = record.map(|(id, cause)| (self.daemon.cli(&["show", id]).stdout, cause));
        *said = format!("{:#}\n{shown}\n{line}\n{record:?}", statuses[0]["sync"]);
        let reason = &statuses[0]["sync"]["reason"];
        let (first, second) = first_lines(&shown);
        let in_status = is_listed(reason, first, second);
        let in_json = statuses.iter().all(|status| {
            let sync = &status["sync"];
            is_listed(&sync["reason"], sync["text"].as_str().unwrap(), sync["remedy"].as_str())
        });
        let (text, to_do) = match line.split_once(" To do: ") {
            Some((text, to_do)) => (text, Some(to_do)),
            None => (line.as_str(), None),
        };
        let in_notice =
            is_listed(reason, text, to_do) || is_listed(reason, text.trim_end_matches('.'), to_do);
        let in_record = record.is_none_or(|(shown, cause)| {
            let (first, second) = first_lines(&shown);
            first.contains(cause) && second.is_some()
        });
        in_status && in_json && in_notice && in_record
    }
}

/// Asserts that the status of a daemon says what the table says, where no service manager listens.
#[track_caller]
pub(crate) fn assert_status_says(daemon: &Daemon, reason: &str) {
    let rows: Vec<Row> = rows().into_iter().filter(|row| row.reason == reason).collect();
    wait_for(reason, || {
        let shown = daemon.cli(&["status"]).stdout;
        let (first, second) = first_lines(&shown);
        let said = &daemon.status()["sync"]["reason"];
        rows.iter().any(|row| row.fits(said, first, second)).then_some(())
    });
}

/// The first line, and what it says to do in the second.
fn first_lines(shown: &str) -> (&str, Option<&str>) {
    let mut lines = shown.lines();
    let first = lines.next().unwrap_or_default();
    (first, lines.next().and_then(|second| second.strip_prefix("To do: ")))
}

/// Enqueues records, and waits for the situation.
#[track_caller]
fn play(settings: &Settings, reason: &str, cause: &str) -> Played {
    let mut played = Played::start(settings);
    let id = played.daemon.enqueue_many(3).remove(0);
    played.assert_says(reason, Some((&id, cause)));
    played
}

fn keyed() -> Value {
    json!({"type": "Visits", "key": "account-17", "payload": {}})
}

#[test]
fn the_table_has_every_situation_and_patterns_fit_texts() {
    let reasons: Vec<String> = rows().into_iter().map(|row| row.reason).collect();
    assert!(reasons.len() >= 20, "{reasons:?}");
    assert!(fits("All … records synced", "All 150 records synced"));
    assert!(fits("Paused by …: … waiting", "Paused by root since Sunday 08:15 UTC: 3 records waiting"));
    assert!(!fits("All … records synced", "All 150 records synced (1 needs review)"));
    assert!(fits("Nothing listens at ….", "Nothing listens at 127.0.0.1:1."));
}

#[test]
fn a_server_that_is_down_is_not_called_offline() {
    play(&Settings::for_server(REFUSED), "server_down", "nothing listens at 127.0.0.1:1");
}

#[test]
fn a_name_that_is_not_known_is_named() {
    // No name service is asked for a name with so long a part.
    let url = format!("http://{}.example", "x".repeat(70));
    let settings = Settings::for_server(&url).with("connectivity.watch", "poll");
    play(&settings, "name_unknown", ".example is not known");
}

#[test]
fn a_server_without_tls_is_told_apart_from_one_that_is_down() {
    let server = ScriptedServer::start(Reply::correct);
    let url = server.url().replace("http:", "https:");
    play(&Settings::for_server(&url), "tls", "No encrypted connection (TLS)");
}

#[test]
fn a_clock_that_is_wrong_is_found_by_the_certificate() {
    let directory = directory();
    let key = KeyPair::generate().unwrap();
    let mut certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    (certificate.not_before, certificate.not_after) = (date_time_ymd(2100, 1, 1), date_time_ymd(2101, 1, 1));
    let certificate = certificate.self_signed(&key).unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("cert.pem"), certificate.pem()).unwrap();
    place(path("key.pem").as_ref(), &key.serialize_pem(), 0o600);
    let arguments = ["--tls-cert", &path("cert.pem"), "--tls-key", &path("key.pem")];
    let gateway = Gateway::start(directory.path(), &arguments);
    let url = format!("https://localhost:{}", gateway.address.port());
    let settings = Settings::for_server(&url).with("server.ca_file", &path("cert.pem"));
    play(&settings, "clock_wrong", "The clock of this device is wrong");
}

#[test]
fn a_device_without_a_network_is_offline() {
    if !can_be_others() {
        return;
    }
    let mut played = Played::start_by(&Settings::for_server("http://192.0.2.1"), |home| {
        let daemon = home.command();
        let mut command = Command::new("unshare");
        command.arg("--net").arg(daemon.get_program()).args(daemon.get_args());
        let log = std::fs::File::options().append(true).open(home.path("log")).unwrap();
        command.stderr(log);
        command
    });
    played.has_page = false;
    let id = played.daemon.enqueue_many(3).remove(0);
    played.assert_says("no_network", Some((&id, "This device has no network")));
}

#[test]
fn a_busy_server_is_named_with_its_response() {
    let server = ScriptedServer::start(|_| Reply::error(503, "BUSY").with("retry-after", "600"));
    let settings = Settings::for_server(&server.url()).with("retry.max_retry_after", "1h");
    play(&settings, "server_busy", "The server is busy (HTTP 503).");
}

#[test]
fn a_server_that_fails_is_named_with_its_response() {
    let server = ScriptedServer::start(|_| Reply::error(500, "OOPS"));
    let settings = Settings::for_server(&server.url())
        .with("retry.initial_backoff", "10m")
        .with("retry.max_backoff", "10m")
        .with("server.outcome_lookup", "off");
    play(&settings, "server_failed", "");
}

#[test]
fn a_server_that_does_not_respond_is_awaited_with_the_time_so_far() {
    let server = ScriptedServer::start(|_| Reply::Hang);
    let settings = Settings::for_server(&server.url()).with("server.request_timeout", "60s");
    play(&settings, "awaiting_response", "which has not responded for");
}

#[test]
fn records_behind_one_that_needs_review_say_so() {
    let server = ScriptedServer::start(rejecting("no such account"));
    let mut played = Played::start(&Settings::for_server(&server.url()));
    let first = played.daemon.enqueue(&[keyed()]).remove(0);
    played.assert_says("needs_review", Some((&first, "no such account")));
    let second = played.daemon.enqueue(&[keyed()]).remove(0);
    played.assert_says(
        "held",
        Some((&second, &format!("An earlier record of its key, {first}, needs review"))),
    );
}

#[test]
fn a_pause_names_who_asked_for_it() {
    let mut played = Played::start(&Settings::for_server(REFUSED));
    let id = played.daemon.enqueue_many(3).remove(0);
    assert_eq!(played.daemon.cli(&["pause"]).code, Some(0));
    played.assert_says("paused", Some((&id, "Paused by ")));
    assert_eq!(played.daemon.cli(&["pause", "--for", "2h"]).code, Some(0));
    played.assert_says("paused", Some((&id, " until ")));
}

#[test]
fn a_login_page_is_named() {
    let server = ScriptedServer::start(|_| Reply::html(200));
    play(&Settings::for_server(&server.url()), "login_page", "The login page of ");
}

fn check_code(daemon: &Daemon) -> Option<i32> {
    daemon.cli(&["status", "--check"]).code
}

#[test]
fn a_token_that_is_not_accepted_is_named_and_told_apart_from_none() {
    let server = ScriptedServer::start(|_| Reply::error(401, "WHO"));
    let settings = Settings::for_server(&server.url()).with("retry.max_backoff", "10m");
    play(&settings, "auth_required", "The server wants a token, and none is set.");
    let directory = directory();
    let token = directory.path().join("token");
    place(&token, "old", 0o600);
    let settings = settings.with("server.token_file", token.to_str().unwrap());
    let mut played = play(&settings, "auth_required", "The server does not accept the token.");
    let said = played.daemon.status()["sync"]["remedy"].as_str().unwrap().to_owned();
    assert!(said.contains("config.toml:"), "the place of server.token_file: {said}");
    assert_eq!(check_code(&played.daemon), Some(1));
    // Until another response comes, the last one counts.
    assert_eq!(played.daemon.cli(&["sync"]).code, Some(0));
    for _ in 0..5 {
        assert_eq!(check_code(&played.daemon), Some(1));
    }
    place(&token, "old", 0o644);
    played.daemon.wait_until("the mode to be refused", |status| {
        status["sync"]["text"].as_str().unwrap().starts_with("The token cannot be used")
    });
    played.assert_says("auth_required", None);
}

#[test]
fn a_server_that_refuses_only_batches_is_named_for_a_single_record_too() {
    for (reply, reason, cause) in [
        (Reply::html(403), "auth_required", "The server wants a token, and none is set."),
        (Reply::html(404), "misconfigured", "responds, but not to batches (HTTP 404)."),
    ] {
        let server =
            ScriptedServer::start(
                move |request| {
                    if request.is_batch() { reply.clone() } else { Reply::unknown_batch() }
                },
            );
        let settings = Settings::for_server(&server.url()).with("retry.max_backoff", "10m");
        let mut played = Played::start(&settings);
        let id = played.daemon.enqueue_many(1).remove(0);
        played.assert_says(reason, Some((&id, cause)));
        assert_eq!(check_code(&played.daemon), Some(1));
    }
}

#[test]
fn a_server_that_refuses_every_batch_is_named() {
    let server = ScriptedServer::start(|_| Reply::error(422, "X"));
    let mut played = play(&Settings::for_server(&server.url()), "refused", "");
    assert_eq!(check_code(&played.daemon), Some(1));
    played.assert_says("refused", None);
}

/// A port where something else than HTTP is spoken, or nothing is said.
fn other_service(says: &'static [u8]) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            let read = std::io::Read::read(&mut stream, &mut request);
            read.and_then(|_| std::io::Write::write_all(&mut stream, says)).ok();
        }
    });
    url
}

#[test]
fn a_port_where_nothing_speaks_http_is_named() {
    let url = other_service(b"SSH-2.0-OpenSSH_9.2\r\n");
    let played = play(&Settings::for_server(&url), "misconfigured", "responds, but not with HTTP.");
    assert_eq!(check_code(&played.daemon), Some(1));
    let url = other_service(b"");
    play(&Settings::for_server(&url), "connection_lost", "closes the connection without a response.");
}

#[test]
fn a_certificate_for_another_name_is_told_apart_from_one_that_is_not_trusted() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["other.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(path("cert.pem"), certificate.pem()).unwrap();
    place(path("key.pem").as_ref(), &key.serialize_pem(), 0o600);
    let gateway =
        Gateway::start(directory.path(), &["--tls-cert", &path("cert.pem"), "--tls-key", &path("key.pem")]);
    let settings = Settings::for_server(&format!("https://localhost:{}", gateway.address.port()));
    let played = play(&settings, "tls", "of an authority that this device does not trust.");
    assert_eq!(check_code(&played.daemon), Some(1));
    let settings = settings.with("server.ca_file", &path("cert.pem"));
    play(&settings, "tls", "its certificate is for another name.");
}

#[test]
fn a_record_that_waits_does_not_hide_the_review_that_others_wait_for() {
    let server = ScriptedServer::start(|request| {
        if !request.is_batch() {
            return Reply::unknown_batch();
        }
        let records = request.records();
        let later: Vec<String> = records
            .iter()
            .filter(|record| record["type"] == "Later")
            .map(|record| record["id"].as_str().unwrap().to_owned())
            .collect();
        Reply::results(request.batch_id(), &request.ids(), |id| {
            let is_later = later.iter().any(|later| later == id);
            let status = if is_later { "retry" } else { "rejected" };
            Some(json!({"id": id, "status": status, "code": "LATER", "message": "no", "retry_after_s": 600}))
        })
    });
    let mut played = Played::start(&Settings::for_server(&server.url()).with("retry.max_retry_after", "1h"));
    played.daemon.enqueue(&[keyed()]);
    played.daemon.wait_until("the review", |status| status["sync"]["needs_review"] == 1);
    let later = json!({"type": "Later", "payload": {}});
    played.daemon.enqueue(&[keyed(), later]);
    played.assert_says("retry", None);
    let sync = played.daemon.status()["sync"].clone();
    assert!(sync["text"].as_str().unwrap().contains("2 records waiting (1 needs review)"), "{sync}");
    assert!(sync["remedy"].as_str().unwrap().contains("fieldsync quarantine list"), "{sync}");
}

#[test]
fn an_address_that_takes_no_records_and_a_missing_one_are_named() {
    let server = ScriptedServer::start(|_| Reply::html(404));
    let settings = Settings::for_server(&server.url()).with("retry.max_backoff", "10m");
    play(&settings, "misconfigured", "responds, but not to batches (HTTP 404).");
    play(&Settings::default(), "no_server", "No server is set.");
}

#[test]
fn a_mistake_in_a_changed_configuration_is_named_with_its_line() {
    let settings = Settings::for_server(REFUSED);
    let mut played = Played::start(&settings);
    played.daemon.home.configure(&with_page(&settings).with("queue.max_records", "many"));
    played.daemon.signal("HUP");
    let names_the_line = |status: &Value| {
        let text = status["sync"]["text"].as_str().unwrap();
        text.contains("config.toml: line ") && text.contains("queue.max_records: must be ")
    };
    played.daemon.wait_until("the refusal", names_the_line);
    played.assert_says("nothing_to_send", None);
}

#[test]
fn a_full_disk_comes_first() {
    let mut played = Played::start_by(&Settings::for_server(REFUSED), |home| limited_to(home, 32 << 20));
    let record = json!({"type": "T", "payload": {"text": "x".repeat(100_000)}}).to_string();
    let is_full = || (played.daemon.post("/v1/records", &record).status == 507).then_some(());
    wait_for("the disk to be full", is_full);
    played.assert_says("disk_full", None);
}

#[test]
fn all_records_that_are_synced_need_nothing() {
    let server = ScriptedServer::start(Reply::correct);
    let mut played = Played::start(&Settings::for_server(&server.url()));
    played.assert_says("nothing_to_send", None);
    played.daemon.enqueue_many(3);
    played.assert_says("nothing_to_send", None);
}
