//! The stand-in of a CRM as a process, and a destination that is connected to it.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::super::driver::HttpDestination;
use super::super::mapping::HttpMapping;
use super::super::reload_cache::ReloadCache;
use super::super::token_budget::LocalTokenBudget;
use super::support::{salesforce_mapping_in, zoho_mapping_in};
use crate::destination::{Verdict, collect_verdicts};
use crate::validated_batch::ValidatedRecord;

const STAND_IN_PROGRAM: &str = "fieldsync-crm-stand-in";
/// Batches that a device sends until all records have their final verdict.
const ROUNDS_MAX: usize = 60;
/// Shorter than the default, so that tests of hanging calls end.
const CALL_TIMEOUT: Duration = Duration::from_millis(1500);
const ORDER_OPTIONS: [&str; 4] = ["--key-field", "Fieldsync_Key", "--order-field", "Fieldsync_Seq"];
const ORDER_OPTIONS_OF_SALESFORCE: [&str; 4] =
    ["--key-field", "Fieldsync_Key__c", "--order-field", "Fieldsync_Seq__c"];

/// A stand-in that runs; killed when dropped.
pub(super) struct CrmProcess {
    child: Child,
    _stdout: BufReader<ChildStdout>,
    address: String,
}

impl CrmProcess {
    fn start(crm: &str, options: &[&str]) -> Self {
        // Unit tests run in target/PROFILE/deps.
        let tests = env::current_exe().unwrap();
        let program = tests.parent().and_then(|deps| deps.parent()).unwrap().join(STAND_IN_PROGRAM);
        assert!(program.exists(), "{} is missing: cargo build -p {STAND_IN_PROGRAM}", program.display());
        let mut child = Command::new(program).arg(crm).args(options).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").expect(&line).to_owned();
        Self { child, _stdout: stdout, address }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn exchange(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.0\r\nHost: {}\r\nContent-Length: {length}\r\n", self.address);
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.split_whitespace().nth(1) == Some("200"), "{response}");
        body.to_owned()
    }
}

impl Drop for CrmProcess {
    fn drop(&mut self) {
        // It fails for a process that is gone, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A stand-in, and what is needed to call it.
pub(super) struct TestCrm {
    process: CrmProcess,
    /// Kept connections live as long as it.
    runtime: Runtime,
    secrets: TempDir,
    pub(super) mapping: HttpMapping,
    pub(super) destination: HttpDestination,
}

impl TestCrm {
    pub(super) fn zoho(options: &[&str], change: impl FnOnce(&mut HttpMapping)) -> Self {
        let process = CrmProcess::start("zoho", &[&ORDER_OPTIONS, options].concat());
        Self::connect(process, zoho_mapping_in, change)
    }

    pub(super) fn salesforce(options: &[&str], change: impl FnOnce(&mut HttpMapping)) -> Self {
        let process = CrmProcess::start("salesforce", &[&ORDER_OPTIONS_OF_SALESFORCE, options].concat());
        Self::connect(process, salesforce_mapping_in, change)
    }

    fn connect(
        process: CrmProcess,
        mapping_in: impl FnOnce(&str, &std::path::Path) -> HttpMapping,
        change: impl FnOnce(&mut HttpMapping),
    ) -> Self {
        let secrets = TempDir::new().unwrap();
        fs::write(secrets.path().join("secret"), "stand-in-secret\n").unwrap();
        fs::write(secrets.path().join("refresh"), "stand-in-refresh\n").unwrap();
        let mut mapping = mapping_in(&process.url(), secrets.path());
        mapping.limits.call_timeout = CALL_TIMEOUT;
        // Locks go away after some tries.
        mapping.limits.record_retry_after = Duration::from_secs(1);
        change(&mut mapping);
        let destination = connect_destination(&mapping);
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        Self { process, runtime, secrets, mapping, destination }
    }

    /// Another destination for the same CRM: another gateway, or the same after a restart.
    pub(super) fn connect_another(&self) -> HttpDestination {
        connect_destination(&self.mapping)
    }

    pub(super) fn write_secret(&self, file: &str, secret: &str) {
        fs::write(self.secrets.path().join(file), secret).unwrap();
    }

    pub(super) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(super) fn deliver(&self, records: &[ValidatedRecord], time_budget: Duration) -> Vec<Verdict> {
        self.deliver_through(&self.destination, records, time_budget)
    }

    pub(super) fn deliver_through(
        &self,
        destination: &HttpDestination,
        records: &[ValidatedRecord],
        time_budget: Duration,
    ) -> Vec<Verdict> {
        let records: Vec<&ValidatedRecord> = records.iter().collect();
        self.run(collect_verdicts(destination, &records, time_budget))
    }

    /// Delivers as a device does: what is to be tried again is sent again, until each record has a final verdict.
    #[track_caller]
    pub(super) fn deliver_until_settled(
        &self,
        records: &[ValidatedRecord],
        time_budget: Duration,
    ) -> Vec<Verdict> {
        let mut verdicts: Vec<Option<Verdict>> = records.iter().map(|_| None).collect();
        for _ in 0..ROUNDS_MAX {
            let is_open = |position: &usize| {
                !matches!(verdicts[*position], Some(Verdict::Applied(_) | Verdict::Rejected { .. }))
            };
            let open: Vec<usize> = (0..records.len()).filter(is_open).collect();
            if open.is_empty() {
                break;
            }
            let due: Vec<&ValidatedRecord> = open.iter().map(|position| &records[*position]).collect();
            let given = self.run(collect_verdicts(&self.destination, &due, time_budget));
            for (position, verdict) in open.into_iter().zip(given) {
                verdicts[position] = Some(verdict);
            }
        }
        verdicts.into_iter().map(Option::unwrap).collect()
    }

    pub(super) fn set_faults(&self, changes: &Value) {
        self.process.exchange("POST", "/stand-in/faults", &changes.to_string());
    }

    pub(super) fn clear_faults(&self) {
        self.process.exchange("DELETE", "/stand-in/faults", "");
    }

    pub(super) fn report(&self) -> Value {
        serde_json::from_str(&self.process.exchange("GET", "/stand-in/report", "")).unwrap()
    }

    /// The stored records of a module, by the id of the device.
    pub(super) fn stored(&self, module: &str) -> Vec<Value> {
        let lines = self.process.exchange("GET", &format!("/stand-in/records?module={module}"), "");
        // The lines between them are the sizes of chunks.
        let lines = lines.lines().filter(|line| line.starts_with('{'));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Nothing was stored twice, merged or put out of order, and the client broke no rule. Returns the report.
    #[track_caller]
    pub(super) fn assert_clean(&self) -> Value {
        let report = self.report();
        for (module, counts) in report["modules"].as_object().unwrap() {
            for count in ["duplicates", "merges", "order_violations"] {
                assert_eq!(counts[count], 0, "{module} {count}: {report}");
            }
        }
        assert_eq!(report["violations"], serde_json::json!({}), "{report}");
        report
    }
}

fn connect_destination(mapping: &HttpMapping) -> HttpDestination {
    HttpDestination::new(mapping.clone(), &ReloadCache::new(Arc::new(LocalTokenBudget::new()))).unwrap()
}
