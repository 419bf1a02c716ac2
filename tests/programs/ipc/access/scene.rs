//! A device that two users and an admin share, with secrets in every field that may hold one, and the callers.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;

use hyper::Method;
use serde_json::{Value, json};

use crate::support::daemon::{Daemon, Home};
use crate::support::events::EventReader;
use crate::support::http::HttpResponse;
use crate::support::secrets::place;
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::user::{User, open_to_all};
use crate::support::web::{CODE, Page, with_page};

pub(super) const SUBMITTER: User = User::without_groups(54_341);
pub(super) const MEMBER: User = User::without_groups(54_342);
/// A user outside of the group that may open the socket.
pub(super) const OUTSIDER: User = User::without_groups(54_343);

/// The content of the submitter's records, and the server's messages about them.
pub(super) const KEY: &str = "secret-key-of-the-submitter";
pub(super) const PAYLOAD: &str = "secret-payload-of-the-submitter";
pub(super) const MESSAGE: &str = "secret-message-of-the-submitter";
pub(super) const FIELD: &str = "secret-field-of-the-submitter";
pub(super) const RECEIPT: &str = "secret-receipt-of-the-submitter";

fn secret(what: &str, owner: User) -> String {
    let owner = match owner.uid {
        uid if uid == SUBMITTER.uid => "submitter",
        uid if uid == MEMBER.uid => "member",
        _ => "other",
    };
    format!("secret-{what}-of-the-{owner}")
}

/// The caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    Socket(User),
    Page { knows_code: bool },
    Server,
}

/// By the name of its column.
pub(super) fn caller(column: &str) -> Caller {
    match column {
        "submitter" => Caller::Socket(SUBMITTER),
        "member" => Caller::Socket(MEMBER),
        "admin" => Caller::Socket(User::ROOT),
        "outsider" => Caller::Socket(OUTSIDER),
        "page without code" => Caller::Page { knows_code: false },
        "page with code" => Caller::Page { knows_code: true },
        "server" => Caller::Server,
        unknown => panic!("no caller is called `{unknown}`"),
    }
}

/// Responds to each record as its payload requests, and denies whole batches; quotes the request.
fn quote_request(request: &Request) -> Reply {
    if !request.is_batch() {
        return Reply::correct(request);
    }
    let records = request.records();
    let wants = |record: &Value, what: &str| record["payload"]["server"] == what;
    if records.iter().any(|record| wants(record, "denies")) {
        return Reply::json(403, &json!({"error": {"code": "WAF", "message": MESSAGE}}));
    }
    Reply::results(request.batch_id(), &request.ids(), |id| {
        let record = records.iter().find(|record| record["id"] == id)?;
        let rejects = wants(record, "rejects");
        let status = if rejects { "rejected" } else { "applied" };
        let message = record["payload"]["text"].as_str().unwrap_or_default().replace("payload", "message");
        let field = message.replace("message", "field");
        let receipt = json!({"note": message.replace("message", "receipt")});
        let code = "NO_SUCH_ACCOUNT";
        Some(json!({"status": status, "code": code, "message": message, "field": field, "receipt": receipt}))
    })
}

/// The device.
pub(super) struct Scene {
    pub(super) server: ScriptedServer,
    pub(super) daemon: Daemon,
    pub(super) page: Page,
    /// A record of the submitter, under review, with a key.
    pub(super) reviewed: String,
    /// A record of the submitter that the server applied.
    pub(super) synced: String,
    /// A record of the submitter that the previous one under review blocks.
    pub(super) held: String,
    /// A record of the member, under review.
    pub(super) members: String,
}

impl Scene {
    /// The page can be read by all users, or only with the code.
    pub(super) fn set(reading: &str) -> Self {
        let server = ScriptedServer::start(quote_request);
        let home = Home::new(&Settings::default());
        let [code, token] = ["code", "token"].map(|name| home.path(name));
        place(&code, &format!("{CODE}\n"), 0o600);
        place(&token, "sesame\n", 0o600);
        // One at a time, so that a retried record does not bring the record that it blocks into its batch.
        let settings = Settings::for_server(&server.url())
            .batches_of(1)
            .with("server.token_file", token.to_str().unwrap())
            .with("web.token_file", code.to_str().unwrap())
            .with("web.reading", reading)
            .with("retry.quarantine_after", "1000000")
            .with("retry.max_backoff", "10m");
        home.configure(&with_page(&settings));
        let daemon = home.start();
        open_to_all(&daemon);
        let page = Page::of(&daemon);
        let none = String::new();
        let mut scene = Self {
            server,
            daemon,
            page,
            synced: none.clone(),
            reviewed: none.clone(),
            held: none.clone(),
            members: none,
        };
        scene.synced = scene.another_synced();
        scene.reviewed = scene.enqueue(SUBMITTER, "rejects", true);
        scene.wait_until_reviewed(&scene.reviewed);
        scene.held = scene.enqueue(SUBMITTER, "applies", true);
        scene.members = scene.enqueue(MEMBER, "rejects", true);
        scene.wait_until_reviewed(&scene.members);
        // Denied repeatedly, while others are synced.
        scene.daemon.post("/v1/pause", "").expect_json(200);
        for server in ["applies", "denies", "applies", "applies"] {
            scene.enqueue(SUBMITTER, server, false);
        }
        scene.daemon.post("/v1/resume", "").expect_json(200);
        scene.daemon.wait_until("a set that is denied", |status| {
            status["sync"]["denied"][0]["error"]["message"] == MESSAGE
                && status["sync"]["last_error"]["message"] == MESSAGE
                && status["queue"]["holding"][0]["key"] == KEY
        });
        scene
    }

    /// After a denial, the daemon has to see again that other records are accepted.
    pub(super) fn wait_for_denied(&self) {
        self.daemon.wait_until("a set that is denied while others get through", |status| {
            if status["sync"]["denied"][0]["error"]["message"] == MESSAGE {
                return true;
            }
            self.enqueue(SUBMITTER, "applies", false);
            false
        });
    }

    pub(super) fn enqueue(&self, user: User, server: &str, has_key: bool) -> String {
        let payload = json!({"server": server, "text": secret("payload", user)});
        let record = json!({"type": "T", "key": has_key.then(|| secret("key", user)), "payload": payload});
        let accepted = user.post(&self.daemon, "/v1/records", &record.to_string()).expect_json(201);
        accepted["ids"][0].as_str().unwrap().to_owned()
    }

    /// Another record of the submitter that the server applied.
    pub(super) fn another_synced(&self) -> String {
        let id = self.enqueue(SUBMITTER, "applies", false);
        self.daemon.wait_until("a record to be synced", |_| self.daemon.record(&id)["state"] == "SYNCED");
        id
    }

    #[track_caller]
    fn wait_until_reviewed(&self, id: &str) {
        self.daemon.wait_until("a record under review", |_| self.daemon.record(id)["state"] == "QUARANTINED");
    }

    /// Another record of the submitter that is under review.
    pub(super) fn another_reviewed(&self) -> String {
        let id = self.enqueue(SUBMITTER, "rejects", false);
        self.wait_until_reviewed(&id);
        id
    }

    /// Calls the socket or the page; `None` if the caller may not even connect.
    pub(super) fn request(
        &self,
        caller: Caller,
        method: &Method,
        path: &str,
        body: &str,
    ) -> Option<HttpResponse> {
        match caller {
            Caller::Socket(user) => {
                self.guarded(user, || user.try_request(&self.daemon, method.clone(), path, body))
            }
            Caller::Page { knows_code } => {
                let authorization = format!("Bearer {CODE}");
                let mut headers = vec![("content-type", "application/json")];
                headers.extend(knows_code.then_some(("authorization", authorization.as_str())));
                // The page accepts no change without a body.
                let body = if body.is_empty() && *method != Method::GET { "{}" } else { body };
                Some(self.page.request(method.clone(), path, &headers, body))
            }
            Caller::Server => None,
        }
    }

    pub(super) fn get(&self, caller: Caller, path: &str) -> Option<HttpResponse> {
        self.request(caller, &Method::GET, path, "")
    }

    /// Follows events from now on; `None` if that is refused. The first event has been read.
    pub(super) fn follow(&self, caller: Caller) -> Option<EventReader<Box<dyn Read>>> {
        let mut reader = match caller {
            Caller::Socket(user) => {
                let stream = self.guarded(user, || user.connect(&self.daemon.home.socket()).ok())?;
                (&stream).write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
                EventReader::over(Box::new(stream) as Box<dyn Read>)
            }
            Caller::Page { knows_code } => {
                let code =
                    if knows_code { format!("authorization: Bearer {CODE}\r\n") } else { String::new() };
                let head = format!("GET /v1/events HTTP/1.1\r\nhost: {}\r\n{code}\r\n", self.page.0);
                EventReader::over(Box::new(self.page.raw(head.as_bytes())) as Box<dyn Read>)
            }
            Caller::Server => return None,
        };
        (reader.status() == 200).then(|| {
            assert_eq!(reader.next().expect("the first event").event, "status");
            reader
        })
    }

    /// Limited by the permissions of the socket for this user.
    fn guarded<T>(&self, user: User, call: impl FnOnce() -> T) -> T {
        let set_mode =
            |mode| fs::set_permissions(self.daemon.home.socket(), Permissions::from_mode(mode)).unwrap();
        if user != OUTSIDER {
            return call();
        }
        set_mode(0o660);
        let called = call();
        set_mode(0o666);
        called
    }
}

/// No response contains a secret that is not for this caller, whatever the table says.
#[track_caller]
pub(super) fn keeps_secrets(row: &str, caller: Caller, text: &str) {
    let others = match caller {
        Caller::Socket(user) if user == User::ROOT => return,
        Caller::Socket(user) if user == SUBMITTER => text.contains("-of-the-member"),
        Caller::Socket(user) if user == MEMBER => text.contains("-of-the-submitter"),
        Caller::Socket(_) | Caller::Page { knows_code: false } => text.contains("secret-"),
        Caller::Page { knows_code: true } => {
            ["secret-payload", "secret-receipt"].iter().any(|secret| text.contains(secret))
        }
        Caller::Server => false,
    };
    assert!(!others, "{row} tells {caller:?} what is not for it: {text}");
}
