//! Tokens of devices: their owners, their replacement, and what another device cannot do.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use fieldsync::protocol::wire::{BATCH_PATH, RecordStatus};
use hyper::Method;
use serde_json::json;
use uuid::Uuid;

use crate::support::daemon::{Counts, Home};
use crate::support::device::Batch;
use crate::support::gateway::{ANY_PORT, Gateway, command, refuses};
use crate::support::http::{HttpResponse, borrow_headers, statuses};
use crate::support::postgres::ledger_in;
use crate::support::secrets::place;
use crate::support::settings::Settings;
use crate::support::wait::{directory, wait_for};

struct Tokens {
    file: PathBuf,
    directory: tempfile::TempDir,
}

impl Tokens {
    fn with(lines: &str) -> Self {
        let directory = directory();
        let tokens = Self { file: directory.path().join("tokens"), directory };
        tokens.write(lines);
        tokens
    }

    fn write(&self, lines: &str) {
        fs::write(&self.file, lines).unwrap();
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn read_log(&self) -> String {
        fs::read_to_string(self.log()).unwrap()
    }

    fn start(&self) -> Gateway {
        let store = ledger_in(self.directory.path());
        Gateway::start_logging(&store, &self.log(), &["--token-file", self.file.to_str().unwrap()])
    }
}

fn send(gateway: &Gateway, method: Method, path: &str, batch: &Batch, token: &str) -> HttpResponse {
    let mut headers = batch.headers();
    headers.push(("authorization".into(), format!("Bearer {token}")));
    let body = if method == Method::POST { batch.body() } else { Vec::new() };
    gateway.send(method, path, &borrow_headers(&headers), body)
}

fn post(gateway: &Gateway, batch: &Batch, token: &str) -> HttpResponse {
    send(gateway, Method::POST, BATCH_PATH, batch, token)
}

fn outcome(response: &HttpResponse) -> (u16, String) {
    (response.status, if response.status == 200 { String::new() } else { response.code() })
}

/// SHA-256 in hexadecimal.
fn hashed(token: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    let (half, rest) = digest.as_ref().split_first_chunk().unwrap();
    format!("{:032x}{:032x}", u128::from_be_bytes(*half), u128::from_be_bytes(rest.try_into().unwrap()))
}

#[test]
fn a_token_of_one_device_admits_only_that_device() {
    let [mine, other] = [Batch::of(&["{}"]), Batch::of(&["{}"])];
    let lines = format!(
        "# tokens\n\n{} mine-token\r\n  {}\tsha256:{}\n",
        mine.device,
        other.device.to_string().to_uppercase(),
        hashed("hashed-token")
    );
    let tokens = Tokens::with(&lines);
    let gateway = tokens.start();
    let mismatch = (403, "DEVICE_MISMATCH".to_owned());
    let look_up = format!("{BATCH_PATH}/{}", mine.id);
    for (batch, token, expected) in [
        (&mine, "hashed-token", &mismatch),
        (&other, "mine-token", &mismatch),
        (&mine, "mine-token", &(200, String::new())),
        (&other, "hashed-token", &(200, String::new())),
        (&mine, "no-token", &(401, "UNAUTHORIZED".to_owned())),
        (&mine, &format!("sha256:{}", hashed("hashed-token")), &(401, "UNAUTHORIZED".to_owned())),
        (&mine, &format!("{} mine-token", mine.device), &(401, "UNAUTHORIZED".to_owned())),
        (&mine, "#", &(401, "UNAUTHORIZED".to_owned())),
    ] {
        let response = post(&gateway, batch, token);
        assert_eq!(&outcome(&response), expected, "{token}: {}", response.text());
    }
    let response = send(&gateway, Method::GET, &look_up, &mine, "hashed-token");
    assert_eq!(outcome(&response), mismatch);
    assert!(response.error().1.contains("--token-file"), "{}", response.text());
    assert_eq!(send(&gateway, Method::GET, &look_up, &mine, "mine-token").status, 200);
    // The ledger has the records of all devices.
    let response = send(&gateway, Method::GET, "/ledger", &mine, "mine-token");
    assert_eq!(outcome(&response), (403, "DEVICE_TOKEN".to_owned()));
    // A request without the id of its device.
    let headers = [("authorization", "Bearer mine-token")];
    let response = gateway.send(Method::POST, BATCH_PATH, &headers, mine.body());
    assert_eq!(outcome(&response), (400, "INVALID_REQUEST".to_owned()));
    for secret in ["mine-token", "hashed-token", &hashed("hashed-token")] {
        assert!(!tokens.read_log().contains(secret), "{}", tokens.read_log());
    }
    assert!(tokens.read_log().contains(&mine.device.to_string()), "{}", tokens.read_log());
}

#[test]
fn several_tokens_are_valid_at_once_and_are_replaced_without_a_restart() {
    let tokens = Tokens::with(&format!("old-token\nsha256:{}\n", hashed("new-token")));
    let gateway = tokens.start();
    let valid = |token: &str| post(&gateway, &Batch::of(&["{}"]), token).status == 200;
    assert!(valid("old-token") && valid("new-token"));
    tokens.write("new-token\n");
    gateway.signal("HUP");
    wait_for("the old token to end", || (!valid("old-token")).then_some(()));
    assert!(valid("new-token"));
    // An invalid file changes nothing, and is logged.
    for (wrong, reason) in
        [("", "no token"), ("one two three\n", "line 1"), ("new-token\nsha256:12\n", "line 2")]
    {
        let reported = tokens.read_log().matches("tokens stay as they were").count();
        tokens.write(wrong);
        gateway.signal("HUP");
        wait_for("the reason", || {
            let log = tokens.read_log();
            (log.matches("tokens stay as they were").count() > reported && log.contains(reason)).then_some(())
        });
        assert!(valid("new-token"));
    }
    assert!(!tokens.read_log().contains("new-token"), "{}", tokens.read_log());
}

#[test]
fn a_token_file_with_a_mistake_is_rejected_with_its_line_and_without_its_secrets() {
    let device = Uuid::new_v4();
    for (lines, reason) in [
        ("s3cret\nnot-a-device s3cret\n".to_owned(), "line 2"),
        (format!("{device} s3cret more\n"), "line 1"),
        (format!("# {device} s3cret\n\n"), "holds no token"),
        ("sha256:s3cret\n".to_owned(), "64 hexadecimal digits"),
        (format!("{device} s3cret\n{device}\n"), "line 2"),
    ] {
        let tokens = Tokens::with(&lines);
        let store = tokens.directory.path().join("ledger.redb");
        let file = tokens.file.to_str().unwrap();
        let (code, said) = refuses(store.to_str().unwrap(), &["--token-file", file]);
        assert_eq!(code, Some(78), "{lines}: {said}");
        assert!(said.contains(file) && said.contains(reason), "{lines}: {said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
}

#[test]
fn a_daemon_with_the_token_of_another_device_waits_and_quarantines_nothing() {
    let other = Uuid::new_v4();
    let tokens = Tokens::with(&format!("{other} sesame-open\n"));
    let gateway = tokens.start();
    let home = Home::new(&Settings::default());
    let token = home.path("token");
    place(&token, "sesame-open", 0o600);
    let settings = Settings::for_server(&gateway.url()).with("server.token_file", token.to_str().unwrap());
    home.configure(&settings.batches_of(2));
    let daemon = home.start();
    daemon.enqueue_many(6);
    let status = daemon.wait_for_phase("auth_required");
    let error = &status["sync"]["last_error"];
    assert_eq!((&error["http_status"], &error["code"]), (&json!(403), &json!("DEVICE_MISMATCH")), "{error}");
    // However often it tries, no record is blamed.
    for _ in 0..8 {
        let refused =
            |gateway: &Gateway| gateway.metric("fieldsync_gateway_batch_answers_total{status=\"403\"}");
        let before = refused(&gateway);
        daemon.post("/v1/sync", "").expect_json(202);
        wait_for("another try", || (refused(&gateway) > before).then_some(()));
    }
    let counts = daemon.counts();
    assert_eq!((counts.quarantined, counts.synced), (0, 0), "{counts:?}");
    let records = daemon.get("/v1/records").expect_json(200);
    assert!(records["records"].as_array().unwrap().iter().all(|record| record["attempts"] == 0), "{records}");
    let device = status["device_id"].as_str().unwrap();
    tokens.write(&format!("{other} sesame-open\n{device} sesame-open\n"));
    gateway.signal("HUP");
    wait_for("the new lines to be read", || tokens.read_log().contains("were read again").then_some(()));
    daemon.post("/v1/sync", "").expect_json(202);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(6));
}

#[test]
fn a_record_id_that_another_device_used_first_has_its_own_code_and_message() {
    let directory = directory();
    let gateway = Gateway::start(directory.path(), &[]);
    let owner = Batch::of(&["{\"n\":1}"]);
    gateway.post(&owner).batch();
    let mut own = owner.again();
    own.records[0].payload = "{\"n\":2}".into();
    let own = gateway.post(&own).batch();
    assert_eq!(own.results[0].code.as_deref(), Some("ID_CONFLICT"));
    let mut stranger = Batch::with(owner.records.clone());
    // A reinstalled device has another id and the same records.
    assert_eq!(statuses(&gateway.post(&stranger).batch()), [RecordStatus::Duplicate]);
    stranger = stranger.again();
    stranger.records[0].payload = "{\"n\":3}".into();
    let refused = gateway.post(&stranger).batch();
    assert_eq!(statuses(&refused), [RecordStatus::Rejected]);
    let result = &refused.results[0];
    assert_eq!(result.code.as_deref(), Some("ID_OF_OTHER_DEVICE"));
    let words = result.message.as_deref().unwrap();
    assert!(words.contains("another device") && words.contains("new id"), "{words}");
    assert!(words.chars().count() <= 200, "the device keeps no more: {words}");
    assert_eq!(gateway.ledger().len(), 1);
    // A restart keeps this.
    drop(gateway);
    let gateway = Gateway::start(directory.path(), &[]);
    let again = gateway.post(&stranger.again()).batch();
    assert_eq!(again.results[0].code.as_deref(), Some("ID_OF_OTHER_DEVICE"));
}

#[test]
fn a_gateway_that_others_can_reach_without_a_token_warns() {
    let warning = "without --token-file";
    let started = |directory: &Path, listen: &str, arguments: &[&str]| {
        let log = directory.join("log");
        let mut command = command(&ledger_in(directory), listen, arguments);
        command.env_remove("RUST_LOG").stderr(fs::File::create(&log).unwrap());
        drop(Gateway::start_by(command));
        fs::read_to_string(log).unwrap()
    };
    let tokens = Tokens::with("some-token\n");
    let with_token = ["--token-file", tokens.file.to_str().unwrap()];
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0)).to_string();
    for (listen, arguments, warns) in [
        (everywhere.as_str(), &[][..], true),
        ("[::]:0", &[], true),
        (everywhere.as_str(), &with_token, false),
        (ANY_PORT, &[], false),
    ] {
        let log = started(directory().path(), listen, arguments);
        assert_eq!(log.contains(warning) && log.contains("WARN"), warns, "{listen}: {log}");
    }
}
