//! The stand-in for a CRM as a process.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use hyper::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::http::{exchange, request};
use super::process::Guard;

/// It is beside the programs of this package.
const PROGRAM: &str = "fieldsync-crm-stand-in";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CrmKind {
    Zoho,
    Salesforce,
}

impl CrmKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Zoho => "zoho",
            Self::Salesforce => "salesforce",
        }
    }

    /// What custom fields end with.
    fn suffix(self) -> &'static str {
        match self {
            Self::Zoho => "",
            Self::Salesforce => "__c",
        }
    }

    pub(crate) fn id_field(self) -> String {
        format!("Fieldsync_Id{}", self.suffix())
    }

    pub(crate) fn key_field(self) -> String {
        format!("Fieldsync_Key{}", self.suffix())
    }

    pub(crate) fn order_field(self) -> String {
        format!("Fieldsync_Seq{}", self.suffix())
    }

    /// The module for records of a type.
    pub(crate) fn module(self, record_type: &str) -> &'static str {
        match (self, record_type) {
            (Self::Zoho, "Accounts") => "Accounts",
            (Self::Zoho, _) => "Deals",
            (Self::Salesforce, "Accounts") => "Account",
            (Self::Salesforce, _) => "Opportunity",
        }
    }
}

/// A record that the CRM has.
pub(crate) struct StoredRecord {
    /// The CRM's id.
    pub(crate) id: String,
    pub(crate) module: &'static str,
    pub(crate) fields: Value,
}

/// A stand-in; killed when dropped.
pub(crate) struct StandIn {
    pub(crate) kind: CrmKind,
    address: SocketAddr,
    _child: Guard,
    /// Keeps the pipe open.
    _stdout: BufReader<ChildStdout>,
}

impl StandIn {
    /// Starts one that judges the order of the records of a key.
    pub(crate) fn start(kind: CrmKind, options: &[&str]) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_fieldsync")).with_file_name(PROGRAM);
        assert!(program.exists(), "{} is missing: cargo build -p {PROGRAM}", program.display());
        let (key_field, order_field) = (kind.key_field(), kind.order_field());
        let child = Command::new(program)
            .args([kind.name(), "--key-field", &key_field, "--order-field", &order_field])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = Guard(child.unwrap());
        let mut stdout = BufReader::new(child.0.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on http://").expect("an address");
        Self { kind, address: address.parse().unwrap(), _child: child, _stdout: stdout }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn call(&self, method: Method, path: &str, body: &str) -> String {
        let request = request(method, path, &self.address.to_string(), &[], body.into());
        let response = exchange(TcpStream::connect(self.address), request).expect("a response");
        assert_eq!(response.status, 200, "{}", response.text());
        response.text()
    }

    pub(crate) fn set_faults(&self, changes: &Value) {
        self.call(Method::POST, "/stand-in/faults", &changes.to_string());
    }

    pub(crate) fn clear_faults(&self) {
        self.call(Method::DELETE, "/stand-in/faults", "");
    }

    pub(crate) fn report(&self) -> Value {
        serde_json::from_str(&self.call(Method::GET, "/stand-in/report", "")).unwrap()
    }

    /// All records that it has, by the ids of the device.
    pub(crate) fn stored(&self) -> HashMap<String, StoredRecord> {
        let mut stored = HashMap::new();
        for module in ["Accounts", "Deals"].map(|record_type| self.kind.module(record_type)) {
            let lines = self.call(Method::GET, &format!("/stand-in/records?module={module}"), "");
            for line in lines.lines() {
                let mut record: Value = serde_json::from_str(line).unwrap();
                let fields = record["fields"].take();
                let device_id = fields[self.kind.id_field()].as_str().unwrap().to_owned();
                let id = record["id"].as_str().unwrap().to_owned();
                let before = stored.insert(device_id, StoredRecord { id, module, fields });
                assert!(before.is_none(), "{module}: a record is there twice: {line}");
            }
        }
        stored
    }

    /// Nothing is there twice, merged or out of order, and the gateway broke none of the CRM's rules.
    #[track_caller]
    pub(crate) fn assert_clean(&self) -> Value {
        let report = self.report();
        for (module, counts) in report["modules"].as_object().unwrap() {
            for count in ["duplicates", "merges", "order_violations"] {
                assert_eq!(counts[count], 0, "{module} {count}: {report}");
            }
        }
        assert_eq!(report["violations"], json!({}), "{report}");
        report
    }
}
