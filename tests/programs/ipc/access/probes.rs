//! What a caller gets for a row of the table, tested by making the call.

use hyper::Method;
use serde_json::{Value, json};

use super::scene::{Caller, FIELD, KEY, MEMBER, MESSAGE, PAYLOAD, RECEIPT, SUBMITTER, Scene, keeps_secrets};
use crate::support::http::HttpResponse;
use crate::support::server::Request;

const REVIEW: &str = "/v1/review";

/// A call by a caller, for a row.
pub(super) struct Probe<'a> {
    pub(super) scene: &'a Scene,
    pub(super) row: &'a str,
    pub(super) caller: Caller,
    /// Whether the socket, or the page for callers of the page, has the path of the row.
    pub(super) is_served: bool,
}

impl Probe<'_> {
    /// The expected cell.
    pub(super) fn cell(&self) -> &'static str {
        let reviewed = &self.scene.reviewed;
        match self.row {
            "POST /v1/records" => self.check_changes(&Method::POST, "/v1/records", &record()),
            "GET /v1/records" => self.listed("/v1/records?limit=1000"),
            "GET /v1/records?all=true" => self.listed("/v1/records?limit=1000&all=true"),
            "GET /v1/records?all=false" => self.listed("/v1/records?limit=1000&all=false"),
            "GET /v1/records/{id}" => {
                let response = self.call(&Method::GET, &format!("/v1/records/{reviewed}"), "");
                response.map_or("no", |response| self.extent(&[response.json()], &[reviewed]))
            }
            "GET /v1/records/{id}?payload=true" => {
                let response = self.call(&Method::GET, &format!("/v1/records/{reviewed}?payload=true"), "");
                response.map_or("no", |response| {
                    assert_eq!(response.json()["payload"]["text"], PAYLOAD);
                    self.extent(&[response.json()], &[reviewed])
                })
            }
            "GET /v1/batches/{id}" => {
                let record = self.scene.daemon.record(reviewed);
                let batch = record["batch_id"].as_str().unwrap();
                let response = self.call(&Method::GET, &format!("/v1/batches/{batch}"), "");
                response.map_or("no", |response| {
                    let listed = response.json()["records"].as_array().unwrap().clone();
                    let entries: Vec<Value> =
                        listed.into_iter().filter(|record| record["id"] == **reviewed).collect();
                    self.extent(&entries, &[reviewed])
                })
            }
            "POST /v1/records/lookup" => {
                let Scene { reviewed, held, members, .. } = self.scene;
                let body = json!({"ids": [reviewed, held, members]}).to_string();
                let response = self.call(&Method::POST, "/v1/records/lookup", &body);
                response.map_or("no", |response| {
                    let entries = response.json()["records"].as_array().unwrap().clone();
                    self.extent(&entries, &[reviewed, held, members])
                })
            }
            "PUT /v1/records/{id}/payload" => {
                let id = self.scene.another_reviewed();
                self.check_changes(
                    &Method::PUT,
                    &format!("/v1/records/{id}/payload"),
                    r#"{"server":"applies"}"#,
                )
            }
            "GET /v1/manifest" => self.listed("/v1/manifest"),
            "GET /v1/manifest?all=true" => self.listed("/v1/manifest?all=true"),
            "GET /v1/events" => {
                if self.scene.follow(self.caller).is_some() {
                    "yes"
                } else {
                    "no"
                }
            }
            "GET /"
            | "GET /v1/status"
            | "GET /v1/configuration"
            | "GET /v1/batches"
            | "GET /v1/telemetry"
            | "GET /metrics"
            | "GET /v1/openapi.json" => self.check_changes(&Method::GET, &self.row[4..], ""),
            "POST /v1/sync" | "POST /v1/pause" | "POST /v1/resume" => {
                self.check_changes(&Method::POST, &self.row[5..], "")
            }
            "POST /v1/quarantine/add" => {
                let id = self.scene.enqueue(SUBMITTER, "applies", true);
                let cell = self.check_changes(&Method::POST, "/v1/quarantine/add", &ids(&id));
                // Otherwise a retry of all records would send it.
                self.scene.daemon.post("/v1/quarantine/add", ids(&id)).expect_json(200);
                self.scene.daemon.post("/v1/quarantine/discard", ids(&id)).expect_json(200);
                cell
            }
            "POST /v1/quarantine/retry" => {
                let id = self.scene.another_reviewed();
                self.check_changes(&Method::POST, "/v1/quarantine/retry", &ids(&id))
            }
            "POST /v1/quarantine/retry with all" => self.retried_all(),
            "POST /v1/quarantine/discard" => {
                let id = self.scene.another_reviewed();
                self.check_changes(&Method::POST, "/v1/quarantine/discard", &ids(&id))
            }
            "POST /v1/alerts/acknowledge" => {
                self.check_changes(&Method::POST, "/v1/alerts/acknowledge", r#"{"alert":"store_damaged"}"#)
            }
            // It needs parameters that only the page has: a request without them fails, but not for permission.
            "GET /v1/proof" => match self.scene.get(self.caller, "/v1/proof").map(|response| response.code())
            {
                Some(code) if code == "invalid_query" => "yes",
                Some(code) if code == "not_found" => "no",
                None => "no",
                other => panic!("{other:?} to {:?}", self.caller),
            },
            "GET /v1/review" => self.call(&Method::GET, REVIEW, "").map_or("no", |response| {
                let entry = entry_of(&response.json()["records"], reviewed);
                match (&entry["last_error"]["message"], &entry["key"]) {
                    (message, key) if *message == MESSAGE && *key == KEY => "all",
                    (message, key) if message.is_null() && key.is_null() => "redacted",
                    other => panic!("{other:?}"),
                }
            }),
            _ => self.field(),
        }
    }

    /// As [`Self::cell`], for a field.
    fn field(&self) -> &'static str {
        let reviewed = &self.scene.reviewed;
        match self.row {
            "the payload of a record" => self
                .check_events(&format!("/v1/records/{reviewed}?payload=true"), |response| {
                    response["payload"]["text"] == PAYLOAD
                }),
            "key of a record" => self.told_of_entry(|entry| entry["key"] == KEY),
            "submitter of a record" => self.told_of_entry(|entry| entry["submitter"] == SUBMITTER.uid),
            "last_error.message and .field of a record" => self.told_of_entry(|entry| {
                let error = &entry["last_error"];
                let is_told = error["message"] == MESSAGE;
                assert_eq!(is_told, error["field"] == FIELD, "{error}");
                is_told
            }),
            "receipt of a record" => {
                let Scene { synced, .. } = self.scene;
                self.check_events(&format!("/v1/records/{synced}"), |entry| {
                    entry["receipt"]["note"] == RECEIPT
                })
            }
            "receipt in record events" => self.told_by_event("record", |scene| {
                let id = scene.another_synced();
                Box::new(move |data: &Value| {
                    (data["id"] == id.as_str() && data["state"] == "SYNCED")
                        .then(|| data["receipt"]["note"] == RECEIPT)
                })
            }),
            "last_error.class, .code and .http_status of a record" => self.told_of_entry(|entry| {
                let error = &entry["last_error"];
                error["class"] == "rejected"
                    && error["code"] == "NO_SUCH_ACCOUNT"
                    && error.get("http_status").is_some()
            }),
            "waiting_for of a record" => {
                self.told_of_entry(|entry| entry["waiting_for"]["reason"] == "review")
            }
            "held_by and waiting_for.held_by of a record" => {
                let Scene { held, .. } = self.scene;
                self.check_events(&format!("/v1/records/{held}"), |entry| {
                    let holder = &json!(reviewed);
                    entry["waiting_for"]["reason"] == "key"
                        && [&entry["held_by"], &entry["waiting_for"]["held_by"]] == [holder; 2]
                })
            }
            "last_error.message and .field in record events" => self.told_by_event("record", |scene| {
                let id = scene.another_reviewed();
                Box::new(move |data: &Value| {
                    (data["id"] == id.as_str() && data["state"] == "QUARANTINED").then(|| {
                        data["last_error"]["message"] == MESSAGE && data["last_error"]["field"] == FIELD
                    })
                })
            }),
            "queue.holding[].key in the status" => {
                self.check_events("/v1/status", |status| status["queue"]["holding"][0]["key"] == KEY)
            }
            "queue.holding[].key in progress events" => self.told_by_event("progress", |scene| {
                scene.another_reviewed();
                Box::new(|data: &Value| {
                    let holder = &data["queue"]["holding"][0];
                    holder.is_object().then(|| holder["key"] == KEY)
                })
            }),
            "sync.last_error.message in the status" => {
                self.check_events("/v1/status", |status| status["sync"]["last_error"]["message"] == MESSAGE)
            }
            "sync.denied[].error.message in the status" => {
                self.scene.wait_for_denied();
                self.check_events("/v1/status", |status| {
                    status["sync"]["denied"][0]["error"]["message"] == MESSAGE
                })
            }
            row => panic!("`{row}` is in the table, and no call of this test"),
        }
    }

    /// The response of a permitted call; none where the call is refused as expected.
    fn call(&self, method: &Method, path: &str, body: &str) -> Option<HttpResponse> {
        let response = self.scene.request(self.caller, method, path, body)?;
        keeps_secrets(self.row, self.caller, &response.text());
        if response.status < 300 {
            return Some(response);
        }
        let refusal = (response.status, response.code());
        let expected = match self.caller {
            // A caller without the code does not learn which records exist.
            Caller::Page { knows_code: false } if *method != Method::GET => (401, "wrong_code"),
            _ if !self.is_served => (404, "not_found"),
            _ => (403, "not_permitted"),
        };
        assert_eq!((refusal.0, refusal.1.as_str()), expected, "{} by {:?}", self.row, self.caller);
        None
    }

    fn check_changes(&self, method: &Method, path: &str, body: &str) -> &'static str {
        if self.call(method, path, body).is_some() { "yes" } else { "no" }
    }

    /// Whose records a list has, and whether they are all complete.
    fn listed(&self, path: &str) -> &'static str {
        let Some(response) = self.call(&Method::GET, path, "") else { return "no" };
        let entries: Vec<Value> = if path.starts_with("/v1/manifest") {
            response.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        } else {
            assert_eq!(response.json()["next"], Value::Null);
            response.json()["records"].as_array().unwrap().clone()
        };
        let Scene { reviewed, held, members, .. } = self.scene;
        self.extent(&entries, &[reviewed, held, members])
    }

    /// Which of these records `entries` have: the caller's own, all, or all with those of others redacted.
    fn extent(&self, entries: &[Value], ids: &[&String]) -> &'static str {
        let Caller::Socket(user) = self.caller else { panic!("the page lists nothing") };
        let (mut is_all, mut is_whole) = (true, true);
        for id in ids {
            let whole = self.scene.daemon.record(id);
            let is_own = whole["submitter"] == user.uid;
            let Some(entry) = entries.iter().find(|entry| entry["id"] == id.as_str()) else {
                assert!(!is_own, "{} has not all of {:?}'s own records", self.row, self.caller);
                is_all = false;
                continue;
            };
            let reported = (&entry["key"], &entry["last_error"]["message"]);
            if reported != (&whole["key"], &whole["last_error"]["message"]) {
                assert!(!is_own, "{} lacks parts of {:?}'s own records", self.row, self.caller);
                let is_empty = entry["last_error"].is_null() || entry["last_error"]["message"] == "";
                assert!(entry["key"].is_null() && is_empty, "{entry}");
                is_whole = false;
            }
        }
        let strangers = entries.iter().filter(|entry| entry["submitter"] != user.uid).count();
        match (is_all, is_whole) {
            (true, true) => "all",
            (true, false) => "redacted",
            (false, _) => {
                assert_eq!(strangers, 0, "{} by {:?} is neither own nor all", self.row, self.caller);
                "own"
            }
        }
    }

    /// From the number of records that it changed.
    fn retried_all(&self) -> &'static str {
        let reviewed = || -> Vec<Value> {
            let page = self.scene.daemon.get("/v1/records?limit=1000&state=QUARANTINED").expect_json(200);
            page["records"].as_array().unwrap().clone()
        };
        let before = reviewed();
        let of = |uid: u32| before.iter().filter(|entry| entry["submitter"] == uid).count();
        let counts = [of(SUBMITTER.uid), of(MEMBER.uid)];
        let Some(response) = self.call(&Method::POST, "/v1/quarantine/retry", r#"{"all":true}"#) else {
            return "no";
        };
        let changed = response.json()["changed"].as_u64().unwrap();
        // The server rejects them again.
        self.scene.daemon.wait_until("the records under review again", |_| reviewed().len() == before.len());
        let own = match self.caller {
            Caller::Socket(user) => of(user.uid),
            _ => 0,
        };
        match usize::try_from(changed).unwrap() {
            changed if changed == counts.iter().sum::<usize>() => "all",
            changed if changed == own => "own",
            changed => panic!("{changed} of {counts:?} were retried by {:?}", self.caller),
        }
    }

    /// Whether a response has a field.
    fn check_events(&self, path: &str, has: impl Fn(&Value) -> bool) -> &'static str {
        let is_told = match self.caller {
            Caller::Server => has(&json!({"payload": self.sent("payload")})),
            _ => self.scene.get(self.caller, path).is_some_and(|response| {
                keeps_secrets(self.row, self.caller, &response.text());
                response.status == 200 && has(&response.json())
            }),
        };
        if is_told { "yes" } else { "no" }
    }

    /// Whether an entry of the submitter's record under review has a field, wherever this caller finds one.
    fn told_of_entry(&self, has: impl Fn(&Value) -> bool) -> &'static str {
        let reviewed = &self.scene.reviewed;
        let is_told = match self.caller {
            Caller::Socket(_) => return self.check_events(&format!("/v1/records/{reviewed}"), has),
            Caller::Page { .. } => {
                let review = self.scene.get(self.caller, REVIEW).unwrap().expect_json(200);
                has(&entry_of(&review["records"], reviewed))
            }
            Caller::Server => has(&json!({"key": self.sent("key"), "submitter": self.sent("submitter")})),
        };
        if is_told { "yes" } else { "no" }
    }

    /// A field of the submitter's record, as the server got it.
    fn sent(&self, field: &str) -> Value {
        let batches = self.scene.server.batches();
        let records = batches.iter().flat_map(Request::records);
        let ours = records.into_iter().find(|record| record["id"] == self.scene.reviewed.as_str());
        ours.expect("the record was sent")[field].clone()
    }

    /// Whether events have a field: checks the events after an action, up to the first that could have it.
    fn told_by_event(
        &self,
        event: &str,
        happens: impl FnOnce(&Scene) -> Box<dyn Fn(&Value) -> Option<bool>>,
    ) -> &'static str {
        let Caller::Socket(_) = self.caller else {
            // The page has no such events; its own are in other rows.
            return "no";
        };
        let Some(mut events) = self.scene.follow(self.caller) else { return "no" };
        let has = happens(self.scene);
        loop {
            let seen = events.next();
            let seen = seen.unwrap_or_else(|| panic!("{}: {:?} got no such event", self.row, self.caller));
            keeps_secrets(self.row, self.caller, &seen.data.to_string());
            if let Some(is_told) = has(&seen.data).filter(|_| seen.event == event) {
                return if is_told { "yes" } else { "no" };
            }
        }
    }
}

fn entry_of(records: &Value, id: &str) -> Value {
    let records = records.as_array().unwrap();
    records.iter().find(|entry| entry["id"] == id).expect("the record under review").clone()
}

fn record() -> String {
    json!({"type": "T", "payload": {"server": "applies"}}).to_string()
}

fn ids(id: &str) -> String {
    json!({"ids": [id]}).to_string()
}
