//! The review of records that a receiver refused, by HTTP and on the command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hyper::Method;
use serde_json::{Value, json};

use super::receiver::{REFUSED, Taken, wait_for_counts};
use crate::support::device::{Batch, Record};
use crate::support::gateway::{Gateway, program};
use crate::support::http::HttpResponse;
use crate::support::postgres::ledger_in;
use crate::support::process::{ProgramOutput, run};
use crate::support::server::ScriptedServer;
use crate::support::wait::{directory, wait_for};

const TOKEN: &str = "s3cret-of-the-operator";

struct Review {
    gateway: Gateway,
    taken: Taken,
    token_file: PathBuf,
    _server: ScriptedServer,
}

impl Review {
    /// A gateway whose receiver refuses payloads with `"bad":true`.
    fn start(directory: &Path) -> Self {
        let token_file = directory.join("admin-token");
        fs::write(&token_file, format!("# operators\n{TOKEN}\n")).unwrap();
        let taken = Taken::default();
        let receiver = taken.clone();
        let server = ScriptedServer::start(move |request| {
            receiver.by_record(request, |record| {
                if record["payload"]["bad"] == true {
                    json!({"status": "rejected", "code": "NO", "message": "not \u{1b}[2J this", "field": "/bad"})
                } else {
                    json!({"status": "applied"})
                }
            })
        });
        let arguments = [
            "--forward",
            &server.url(),
            "--forward-max-wait",
            "20ms",
            "--admin-token-file",
            token_file.to_str().unwrap(),
        ];
        let gateway = Gateway::start_logging(&ledger_in(directory), &directory.join("log"), &arguments);
        Self { gateway, taken, token_file, _server: server }
    }

    fn call(&self, method: Method, path: &str, body: &str) -> HttpResponse {
        let authorization = format!("Bearer {TOKEN}");
        let headers = [("authorization", authorization.as_str())];
        self.gateway.send(method, &format!("/admin/refused{path}"), &headers, body.into())
    }

    fn list(&self) -> Vec<Value> {
        let page = self.call(Method::GET, "", "").expect_json(200);
        assert_eq!(page["next"], Value::Null);
        page["records"].as_array().unwrap().clone()
    }

    fn run(&self, arguments: &[&str], input: &str) -> ProgramOutput {
        let connection =
            ["--url", &self.gateway.url(), "--admin-token-file", self.token_file.to_str().unwrap()];
        let mut command = Command::new(program());
        run(command.arg("refused").args(arguments).args(connection), input.as_bytes())
    }

    fn wait_for_refused(&self, records: u64) {
        wait_for("refused records", || (self.gateway.metric(REFUSED) == records).then_some(()));
    }
}

/// Records of keys `a`, `b`, …: of each key, the first is refused, and `behind` others follow it.
fn batch_with_refused(keys: usize, behind: usize) -> Batch {
    let record = |n: usize| {
        let (position, key) = (n / keys, n % keys);
        let payload = format!("{{\"n\":{n},\"bad\":{}}}", position == 0);
        Record { key: Some(format!("key-{key}")), ..Record::new(&payload) }
    };
    Batch::with((0..keys * (behind + 1)).map(record).collect())
}

#[test]
fn refused_records_are_listed_shown_and_mended_by_http() {
    let directory = directory();
    let review = Review::start(directory.path());
    let batch = batch_with_refused(3, 2);
    review.gateway.post(&batch).batch();
    wait_for_counts(&review.gateway, [0, 0, 3, 6]);
    let mut ids: Vec<String> = batch.records[..3].iter().map(|record| record.id.to_string()).collect();
    ids.sort();
    let listed = review.list();
    assert_eq!(listed.iter().map(|record| record["id"].as_str().unwrap()).collect::<Vec<_>>(), ids);
    let ledger = review.gateway.ledger();
    let applied = ledger.iter().find(|line| line["id"] == listed[0]["id"]).unwrap();
    for name in ["seq", "type", "key", "device_id", "batch_id", "applied_at"] {
        assert_eq!(listed[0][name], applied[name], "{name}");
    }
    assert_eq!(
        (&listed[0]["code"], &listed[0]["message"], &listed[0]["field"], &listed[0]["attempts"]),
        (&json!("NO"), &json!("not \u{1b}[2J this"), &json!("/bad"), &json!(1))
    );
    assert!(listed[0]["refused_at"].is_string() && listed[0].get("payload").is_none());
    // Page by page.
    let first = review.call(Method::GET, "?limit=2", "").expect_json(200);
    assert_eq!(
        (first["records"].as_array().unwrap().len(), first["next"].as_str()),
        (2, Some(ids[1].as_str()))
    );
    let rest = review.call(Method::GET, &format!("?limit=2&after={}", ids[1]), "").expect_json(200);
    assert_eq!((&rest["records"][0]["id"], &rest["next"]), (&json!(ids[2]), &Value::Null));
    let shown = review.call(Method::GET, &format!("/{}", ids[0]), "");
    let sent = batch.records.iter().find(|record| record.id.to_string() == ids[0]).unwrap();
    assert_eq!(shown.expect_json(200)["payload"], serde_json::from_str::<Value>(&sent.payload).unwrap());

    // Sent again unchanged, it is refused again.
    let retried = review.call(Method::POST, "/retry", &json!({"ids": [ids[0]]}).to_string());
    assert_eq!(retried.expect_json(200), json!({"changed": 1}));
    wait_for("the second refusal", || {
        review
            .list()
            .iter()
            .any(|record| record["id"] == ids[0].as_str() && record["attempts"] == 2)
            .then_some(())
    });
    // With another payload, it and those behind it follow in order.
    let payload = "{\"n\": 100, \"was\": 1.50}";
    let edited = review.call(Method::PUT, &format!("/{}/payload", ids[0]), payload);
    assert_eq!(edited.expect_json(200), json!({"changed": 1}));
    wait_for_counts(&review.gateway, [3, 0, 2, 4]);
    assert_eq!(review.taken.numbers()[0], 100);
    // Without it, those behind it follow.
    let discarded = review.call(Method::POST, "/discard", &json!({"ids": [ids[1], ids[1]]}).to_string());
    assert_eq!(discarded.expect_json(200), json!({"changed": 1}));
    wait_for_counts(&review.gateway, [5, 0, 1, 2]);
    assert_eq!(
        review.call(Method::POST, "/discard", "{\"all\": true}").expect_json(200),
        json!({"changed": 1})
    );
    wait_for_counts(&review.gateway, [7, 0, 0, 0]);
    review.taken.assert_in_order();
    assert_eq!(review.gateway.ledger(), ledger, "what was applied stays listed");
    assert!(review.list().is_empty());
    let log = fs::read_to_string(directory.path().join("log")).unwrap();
    assert!(!log.contains("not ") || !log.contains("[2J"), "{log}");
    assert!(!log.contains(TOKEN) && !log.contains("key-0"), "{log}");
}

#[test]
fn a_review_that_makes_no_sense_changes_nothing() {
    let directory = directory();
    let review = Review::start(directory.path());
    let batch = batch_with_refused(1, 1);
    review.gateway.post(&batch).batch();
    review.wait_for_refused(1);
    let [head, behind] = [0, 1].map(|n| batch.records[n].id);
    for body in
        ["", "{}", "[]", "{\"ids\": 7}", "{\"all\": false}", "{\"all\": true, \"ids\": []}", "{\"al\": true}"]
    {
        let response = review.call(Method::POST, "/discard", body);
        assert_eq!((response.status, response.code().as_str()), (400, "INVALID_REQUEST"), "{body}");
    }
    for payload in ["", "[1]", "{\"a\":", "7"] {
        let response = review.call(Method::PUT, &format!("/{head}/payload"), payload);
        assert_eq!((response.status, response.code().as_str()), (400, "INVALID_REQUEST"), "{payload}");
    }
    let unknown = review.call(Method::POST, "/discard", &json!({"ids": [behind]}).to_string());
    assert_eq!(unknown.expect_json(200), json!({"changed": 0}));
    for (method, path) in [(Method::GET, format!("/{behind}")), (Method::PUT, format!("/{behind}/payload"))] {
        let response = review.call(method, &path, "{}");
        assert_eq!((response.status, response.code().as_str()), (404, "NOT_UNDER_REVIEW"));
    }
    assert_eq!(review.call(Method::GET, "/x", "").status, 400);
    assert_eq!(review.call(Method::GET, "?limit=x", "").status, 400);
    assert_eq!(review.call(Method::DELETE, "", "").status, 405);
    assert_eq!(review.list().len(), 1);
}

#[test]
fn only_operators_may_review() {
    let directory = directory();
    let review = Review::start(directory.path());
    let paths = [
        (Method::GET, "/admin/refused"),
        (Method::GET, "/admin/refused/0191b3a0-0000-7000-8000-000000000000"),
        (Method::POST, "/admin/refused/retry"),
        (Method::POST, "/admin/refused/discard"),
        (Method::PUT, "/admin/refused/0191b3a0-0000-7000-8000-000000000000/payload"),
        (Method::DELETE, "/admin/refused"),
        (Method::GET, "/admin/else"),
    ];
    let wrong = ["", "Bearer ", "Bearer wrong", "Basic s3cret-of-the-operator"];
    for (method, path) in &paths {
        for authorization in wrong {
            let headers = [("authorization", authorization)];
            let response = review.gateway.send(method.clone(), path, &headers, b"{\"all\":true}".into());
            assert_eq!((response.status, response.header("www-authenticate")), (401, "Bearer"), "{path}");
        }
    }
    // A gateway without the option has no such paths.
    let other = Gateway::start_on(directory.path().join("other.redb").to_str().unwrap(), &[]);
    for (method, path) in &paths {
        assert_eq!(other.send(method.clone(), path, &[], Vec::new()).status, 404, "{path}");
    }
    let denied = directory.path().join("wrong-token");
    fs::write(&denied, "wrong\n").unwrap();
    for (url, code) in [(review.gateway.url(), 5), (other.url(), 1), ("http://127.0.0.1:9".into(), 3)] {
        let mut command = Command::new(program());
        let ran = run(
            command.args(["refused", "list", "--url", &url, "--admin-token-file", denied.to_str().unwrap()]),
            b"",
        );
        assert_eq!(ran.code, Some(code), "{}", ran.stderr);
        assert!(ran.stderr.starts_with("fieldsync-gateway: "), "{}", ran.stderr);
    }
}

#[test]
fn refused_records_are_reviewed_on_the_command_line() {
    let directory = directory();
    let review = Review::start(directory.path());
    let ran = review.run(&["list"], "");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "No record needs review.\n"));
    let mut batch = batch_with_refused(4, 1);
    batch.records[1].payload = "{\"n\":1,\"bad\":true,\"name\":\"a\u{202e}b\"}".into();
    review.gateway.post(&batch).batch();
    wait_for_counts(&review.gateway, [0, 0, 4, 4]);
    let ids: Vec<String> = batch.records[..4].iter().map(|record| record.id.to_string()).collect();

    let ran = review.run(&["list"], "");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.starts_with("ID "), "{}", ran.stdout);
    assert!(ids.iter().all(|id| ran.stdout.contains(id)), "{}", ran.stdout);
    assert!(ran.stdout.contains("NO at /bad: not \u{fffd}[2J this"), "{}", ran.stdout);
    let ran = review.run(&["list", "--limit", "3"], "");
    assert!(ran.stdout.contains(&format!("--after {}", ids[2])), "{}", ran.stdout);
    let ran = review.run(&["list", "--json", "--after", &ids[2]], "");
    let page: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((page["records"].as_array().unwrap().len(), &page["records"][0]["id"]), (1, &json!(ids[3])));

    let ran = review.run(&["show", &ids[1]], "");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("Key       key-1\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains(r#""name":"a\u202eb""#), "{}", ran.stdout);
    let ran = review.run(&["show", "--json", &ids[1]], "");
    assert_eq!(serde_json::from_str::<Value>(&ran.stdout).unwrap()["payload"]["name"], "a\u{202e}b");

    let ran = review.run(&["edit", &ids[0]], "{\"n\":100}");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "1 record sent again.\n"), "{}", ran.stderr);
    let file = directory.path().join("payload.json");
    fs::write(&file, "{\"n\":101}\n").unwrap();
    let ran = review.run(&["edit", &ids[1], "--payload", file.to_str().unwrap()], "");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    wait_for_counts(&review.gateway, [4, 0, 2, 2]);
    assert_eq!(review.run(&["edit", &ids[2]], "[]").code, Some(8));
    assert_eq!(review.run(&["edit", &ids[0]], "{}").code, Some(4));
    assert_eq!(review.run(&["show", &ids[0]], "").code, Some(4));

    let ran = review.run(&["retry", &ids[2], &ids[0]], "");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(4), "1 record sent again.\n"), "{}", ran.stderr);
    let ran = review.run(&["discard", &ids[3]], "");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "1 record discarded.\n"), "{}", ran.stderr);
    wait_for_counts(&review.gateway, [5, 0, 1, 1]);
    assert_eq!(review.run(&["discard", "--all"], "").code, Some(2));
    assert_eq!(review.run(&["retry", "--all"], "").code, Some(0));
    wait_for("the refusal", || {
        review.list().first().is_some_and(|record| record["attempts"] == 3).then_some(())
    });
    assert_eq!(review.run(&["discard", "--all", "--yes"], "").stdout, "1 record discarded.\n");
    wait_for_counts(&review.gateway, [6, 0, 0, 0]);
    review.taken.assert_in_order();
    for mistake in [&["list", "--limit", "0"][..], &["show", "x"], &["retry"], &["retry", "--all", &ids[0]]] {
        assert_eq!(review.run(mistake, "").code, Some(2), "{mistake:?}");
    }
}
