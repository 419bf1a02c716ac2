//! A stand-in that runs, and a client that reads whatever it answers.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
pub(crate) const ZOHO_TOKEN_BODY: &str = "grant_type=refresh_token&client_id=stand-in-client\
    &client_secret=stand-in-secret&refresh_token=stand-in-refresh";
pub(crate) const SALESFORCE_TOKEN_BODY: &str =
    "grant_type=client_credentials&client_id=stand-in-client&client_secret=stand-in-secret";
pub(crate) const ACCOUNT_PATH: &str = "/services/data/v62.0/composite/sobjects/Account/Fieldsync_Id__c";

/// A stand-in; killed when dropped.
pub(crate) struct RunningStandIn {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub(crate) address: String,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
    /// Whether all of the body came.
    pub(crate) is_complete: bool,
}

impl RunningStandIn {
    pub(crate) fn start(crm: &str, options: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_fieldsync-crm-stand-in"))
            .arg(crm)
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").expect(&line).to_owned();
        Self { child, stdout, address }
    }

    pub(crate) fn zoho(options: &[&str]) -> Self {
        Self::start("zoho", options)
    }

    pub(crate) fn salesforce(options: &[&str]) -> Self {
        Self::start("salesforce", options)
    }

    /// Sends a request. `None` if the connection ended without an answer.
    pub(crate) fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Option<Response> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        self.write_request(&mut stream, method, path, headers, body);
        let mut bytes = Vec::new();
        // A connection that is broken has what came before.
        drop(stream.read_to_end(&mut bytes));
        Response::parse(&bytes)
    }

    fn write_request(
        &self,
        stream: &mut TcpStream,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) {
        let host = ("Host", self.address.as_str());
        let has_host = headers.iter().any(|(name, _)| *name == "Host");
        let headers = headers.iter().copied().chain((!has_host).then_some(host));
        let lines: String = headers.map(|(name, value)| [name, ": ", value, "\r\n"].concat()).collect();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nConnection: close\r\n{lines}Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).unwrap();
    }

    /// Whether a request gets no answer for so long.
    pub(crate) fn is_silent(&self, path: &str, headers: &[(&str, &str)], body: &str, time: Duration) -> bool {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(time)).unwrap();
        self.write_request(&mut stream, "POST", path, headers, body);
        stream.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Sends a request that gets an answer.
    #[track_caller]
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        self.exchange(method, path, headers, body).expect("an answer")
    }

    /// A new access token of Zoho.
    #[track_caller]
    pub(crate) fn zoho_token(&self) -> String {
        let answer = self.send("POST", "/oauth/v2/token", &[], ZOHO_TOKEN_BODY).json();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    /// An upsert as a careful client sends it.
    #[track_caller]
    pub(crate) fn zoho_upsert(&self, token: &str, module: &str, data: &Value) -> Response {
        let body = json!({ "data": data, "duplicate_check_fields": ["Fieldsync_Id"], "trigger": [] });
        self.zoho_call(token, module, &body)
    }

    #[track_caller]
    pub(crate) fn zoho_call(&self, token: &str, module: &str, body: &Value) -> Response {
        let path = format!("/crm/v8/{module}/upsert");
        let authorization = format!("Zoho-oauthtoken {token}");
        self.send("POST", &path, &[("Authorization", &authorization)], &body.to_string())
    }

    #[track_caller]
    pub(crate) fn salesforce_token(&self) -> String {
        let answer = self.send("POST", "/services/oauth2/token", &[], SALESFORCE_TOKEN_BODY).json();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    /// Accounts, as a careful client sends them.
    #[track_caller]
    pub(crate) fn salesforce_upsert(&self, token: &str, accounts: &[Value]) -> Response {
        self.salesforce_call(token, ACCOUNT_PATH, &account_collection(accounts))
    }

    #[track_caller]
    pub(crate) fn salesforce_call(&self, token: &str, path: &str, body: &Value) -> Response {
        let authorization = format!("Bearer {token}");
        self.send("PATCH", path, &[("Authorization", &authorization)], &body.to_string())
    }

    #[track_caller]
    pub(crate) fn set_faults(&self, changes: &Value) {
        let answer = self.send("POST", "/stand-in/faults", &[], &changes.to_string());
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    #[track_caller]
    pub(crate) fn report(&self) -> Value {
        self.send("GET", "/stand-in/report", &[], "").json()
    }

    /// The stored records of a module.
    #[track_caller]
    pub(crate) fn records(&self, module: &str) -> Vec<Value> {
        let answer = self.send("GET", &format!("/stand-in/records?module={module}"), &[], "");
        answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Ends it with a signal; the report that it prints.
    #[track_caller]
    pub(crate) fn end(mut self, signal: &str) -> Value {
        let pid = self.child.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -$0 $1", signal, &pid]).status().unwrap();
        assert!(sent.success());
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success());
        assert_eq!(rest.lines().count(), 1, "{rest}");
        serde_json::from_str(&rest).unwrap()
    }
}

impl Drop for RunningStandIn {
    fn drop(&mut self) {
        // It fails for a process that is gone, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Response {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let body = String::from_utf8(bytes[end + 4..].to_vec()).unwrap();
        let mut response = Self { status, head, body, is_complete: true };
        if response.header("transfer-encoding") == Some("chunked") {
            response.body = join_chunks(&response.body);
        } else if let Some(length) = response.header("content-length") {
            response.is_complete = length == response.body.len().to_string();
        }
        Some(response)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The JSON of an answer with this status.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.json()
    }

    /// The entry of the only record, in an answer with this status.
    #[track_caller]
    pub(crate) fn entry(&self, status: u16) -> Value {
        let answer = self.expect(status);
        let entries = answer.get("data").unwrap_or(&answer).as_array().unwrap().clone();
        assert_eq!(entries.len(), 1, "{}", self.body);
        entries[0].clone()
    }
}

fn join_chunks(text: &str) -> String {
    let (mut joined, mut rest) = (String::new(), text);
    while let Some((size, tail)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        joined += &tail[..size];
        rest = tail[size..].trim_start_matches("\r\n");
    }
    joined
}

/// Waits for a condition.
#[track_caller]
pub(crate) fn wait_until(mut condition: impl FnMut() -> bool) {
    let polls = DEADLINE.as_millis() / POLL.as_millis();
    let is_met = (0..polls).any(|_| {
        thread::park_timeout(POLL);
        condition()
    });
    assert!(is_met, "the condition did not come true in time");
}

/// An account of Zoho.
pub(crate) fn account(id: &str) -> Value {
    json!({ "Fieldsync_Id": id, "Account_Name": format!("Account {id}"), "Industry": "retail" })
}

/// So many of them.
pub(crate) fn accounts(count: usize) -> Value {
    (0..count).map(|number| account(&format!("id-{number}"))).collect()
}

/// An account with other values.
pub(crate) fn account_with(id: &str, changes: Value) -> Value {
    merge(account(id), changes)
}

/// An account of Salesforce with other values.
pub(crate) fn salesforce_account(id: &str, changes: Value) -> Value {
    let account = json!({
        "attributes": { "type": "Account" },
        "Fieldsync_Id__c": id,
        "Name": format!("Account {id}"),
    });
    merge(account, changes)
}

pub(crate) fn account_collection(accounts: &[Value]) -> Value {
    json!({ "allOrNone": false, "records": accounts })
}

fn merge(mut record: Value, mut changes: Value) -> Value {
    record.as_object_mut().unwrap().append(changes.as_object_mut().unwrap());
    record
}
