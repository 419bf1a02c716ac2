//! The stand-in for Zoho CRM, a gateway in front of it, and batches of accounts.

use std::fmt::Write;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use hyper::Method;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::support::device::{Batch, Record};
use crate::support::gateway::{ANY_PORT, Gateway, command};
use crate::support::http::{exchange, request};
use crate::support::process::Guard;
use crate::support::wait::wait_for;

/// It is beside the programs of this package.
const PROGRAM: &str = "fieldsync-crm-stand-in";

/// A stand-in; killed when dropped.
pub(crate) struct Crm {
    address: SocketAddr,
    _child: Guard,
    /// Keeps the pipe open.
    _stdout: BufReader<ChildStdout>,
}

impl Crm {
    pub(crate) fn start(options: &[&str]) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_fieldsync")).with_file_name(PROGRAM);
        assert!(program.exists(), "{} is missing: cargo build -p {PROGRAM}", program.display());
        let mut command = Command::new(program);
        command.arg("zoho").args(options).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = Guard(command.spawn().unwrap());
        let mut stdout = BufReader::new(child.0.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on http://").expect("an address");
        Self { address: address.parse().unwrap(), _child: child, _stdout: stdout }
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

    /// What its clients did with accounts.
    pub(crate) fn accounts(&self) -> Value {
        let report: Value = serde_json::from_str(&self.call(Method::GET, "/stand-in/report", "")).unwrap();
        assert_eq!(report["violations"], serde_json::json!({}), "{report}");
        let accounts = &report["modules"]["Accounts"];
        assert_eq!((&accounts["duplicates"], &accounts["merges"]), (&0.into(), &0.into()), "{report}");
        accounts.clone()
    }

    /// Waits until so many calls have arrived.
    pub(crate) fn wait_for_calls(&self, calls: u64) {
        wait_for("calls of the CRM", || (self.accounts()["calls"].as_u64()? >= calls).then_some(()));
    }

    /// The CRM's ids of the accounts, in the order of the batch.
    #[track_caller]
    pub(crate) fn ids_of(&self, batch: &Batch) -> Vec<String> {
        let lines = self.call(Method::GET, "/stand-in/records?module=Accounts", "");
        let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let find = |id: &uuid::Uuid| {
            let row = rows.iter().find(|row| row["fields"]["Fieldsync_Id"] == id.to_string());
            row.unwrap_or_else(|| panic!("{id} is missing"))["id"].as_str().unwrap().to_owned()
        };
        batch.ids().iter().map(find).collect()
    }

    /// Writes the configuration of a gateway in front of this CRM.
    pub(crate) fn configure(&self, directory: &Path, time_budget: &str) -> String {
        for (name, secret) in [("client-secret", "stand-in-secret"), ("refresh-token", "stand-in-refresh")] {
            fs::write(directory.join(name), secret).unwrap();
        }
        let mut text = format!("[destination]\nkind = \"zoho\"\ntime_budget = {time_budget:?}\n\n");
        write!(
            text,
            "[destination.zoho]\naccounts_url = \"http://{}\"\nclient_id = \"stand-in-client\"\n\
             client_secret_file = \"{}\"\nrefresh_token_file = \"{}\"\n\n\
             [[destination.type]]\nname = \"Visits\"\nmodule = \"Accounts\"\nid_field = \"Fieldsync_Id\"\n\
             key_field = \"Fieldsync_Key\"\ntrigger = []\nfields = {{ name = \"Account_Name\" }}\n",
            self.address,
            directory.join("client-secret").display(),
            directory.join("refresh-token").display(),
        )
        .unwrap();
        let path = directory.join("gateway.toml");
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Starts a gateway on this store; its log is in `log` of the directory.
    pub(crate) fn gateway(&self, store: &str, directory: &Path, time_budget: &str) -> Gateway {
        let file = self.configure(directory, time_budget);
        let log = fs::File::options().create(true).append(true).open(directory.join("log")).unwrap();
        let mut command = command(store, ANY_PORT, &["--config", &file]);
        command.env("RUST_LOG", "info").stderr(log);
        Gateway::start_by(command)
    }
}

/// An account with this name.
pub(crate) fn account(name: &str) -> Record {
    Record::new(&format!(r#"{{"name":"{name}"}}"#))
}

/// An account that the CRM refuses with this code.
pub(crate) fn refused_account(code: &str) -> Record {
    Record::new(&format!(r#"{{"name":"refused","Stand_In":"{code}"}}"#))
}

/// With a key.
pub(crate) fn keyed(mut record: Record, key: &str) -> Record {
    record.key = Some(key.into());
    record
}

/// A batch of that many accounts.
pub(crate) fn accounts(count: usize) -> Batch {
    Batch::with((0..count).map(|number| account(&format!("account {number}"))).collect())
}
