//! A device, a gateway and a CRM, and what must be true at the end.

use std::collections::HashSet;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use fieldsync::clock::Clock;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::configuration::GatewayConfiguration;
use super::details::read_details;
use super::records::{CrmRecord, ORDER_MEMBER};
use crate::support::crm_stand_in::{CrmKind, StandIn};
use crate::support::daemon::{Counts, Daemon};
use crate::support::gateway::{Gateway, program};
use crate::support::ports::free_address;
use crate::support::settings::Settings;
use crate::support::wait::directory;

/// Thousands of records take longer than a wait for one event.
const SETTLE_DEADLINE: Duration = Duration::from_mins(3);
const POLL: Duration = Duration::from_millis(20);

/// A device that sends to a gateway in front of a CRM.
pub(super) struct Chain {
    pub(super) crm: StandIn,
    pub(super) gateway: Gateway,
    pub(super) daemon: Daemon,
    pub(super) configuration: GatewayConfiguration,
    directory: TempDir,
}

/// The settings of a device that sends large batches.
pub(super) fn device_settings() -> Settings {
    Settings::default()
        .batches_of(200)
        .with("server.request_timeout", "15s")
        .with("retry.max_retry_after", "1s")
        // Thousands of records need no lines of their own.
        .with("log.level", "info")
}

/// Starts a gateway with a configuration file; its log is appended to a file.
pub(super) fn start_gateway(configuration: &GatewayConfiguration, directory: &Path, listen: &str) -> Gateway {
    let file = configuration.write(directory);
    let log = File::options().create(true).append(true).open(directory.join("gateway.log")).unwrap();
    let mut command = Command::new(program());
    command
        .arg("--config")
        .arg(file)
        .args(["--listen", listen])
        .env_remove("RUST_LOG")
        .env_remove("PGPASSWORD")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    Gateway::start_by(command)
}

impl Chain {
    pub(super) fn start(kind: CrmKind, crm_options: &[&str], settings: &Settings) -> Self {
        let directory = directory();
        let store = directory.path().join("ledger.redb").to_str().unwrap().to_owned();
        Self::start_on(&store, directory, StandIn::start(kind, crm_options), settings)
    }

    /// With this ledger.
    pub(super) fn start_on(store: &str, directory: TempDir, crm: StandIn, settings: &Settings) -> Self {
        let configuration = GatewayConfiguration {
            kind: crm.kind,
            crm_url: crm.url(),
            store: store.to_owned(),
            api_domain: None,
            deals_module: None,
            client_secret: "stand-in-secret",
        };
        // A gateway that is killed is started again at its address.
        let gateway = start_gateway(&configuration, directory.path(), &free_address().to_string());
        let daemon = Daemon::start(&settings.clone().with("server.url", &gateway.url()));
        Self { crm, gateway, daemon, configuration, directory }
    }

    pub(super) fn gateway_log(&self) -> String {
        fs::read_to_string(self.directory.path().join("gateway.log")).unwrap()
    }

    /// `kill -9` of the gateway, which is started again at the same address.
    pub(super) fn kill_gateway(self) -> Self {
        let Self { crm, gateway, daemon, configuration, directory } = self;
        let address: SocketAddr = gateway.address;
        gateway.kill();
        let gateway = start_gateway(&configuration, directory.path(), &address.to_string());
        Self { crm, gateway, daemon, configuration, directory }
    }

    /// `kill -9` of the gateway; another one takes its place.
    pub(super) fn replace_gateway(self, other: Gateway) -> Self {
        self.gateway.kill();
        Self { gateway: other, ..self }
    }

    /// `kill -9` of the daemon, which is started again.
    pub(super) fn kill_daemon(self) -> Self {
        let Self { crm, gateway, daemon, configuration, directory } = self;
        let daemon = daemon.kill9().start();
        Self { crm, gateway, daemon, configuration, directory }
    }

    /// Lets the gateway read a changed configuration.
    pub(super) fn reload_gateway(&mut self, change: impl FnOnce(&mut GatewayConfiguration)) {
        change(&mut self.configuration);
        self.configuration.write(self.directory.path());
        self.gateway.signal("HUP");
    }

    /// Enqueues the records by the command line, and returns their ids.
    #[track_caller]
    pub(super) fn enqueue(&self, records: &[CrmRecord]) -> Vec<String> {
        let lines: Vec<String> = records.iter().map(|record| record.value.to_string()).collect();
        let ran = self.daemon.cli_with(&["enqueue", "--json"], lines.join("\n").as_bytes());
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let mut accepted: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(accepted["accepted"], records.len());
        serde_json::from_value(accepted["ids"].take()).unwrap()
    }

    /// Waits for a condition of the device's status, which is reached within minutes.
    #[track_caller]
    pub(super) fn wait_until(&self, what: &str, wanted: impl Fn(Counts) -> bool) -> Counts {
        let clock = Clock::start();
        loop {
            let counts = self.daemon.counts();
            if wanted(counts) {
                return counts;
            }
            if clock.now() > SETTLE_DEADLINE {
                let (status, report) = (self.daemon.status(), self.crm.report());
                panic!("timed out waiting for {what}: {status:#}\n{report:#}\n{}", self.gateway_log());
            }
            thread::park_timeout(POLL);
        }
    }

    #[track_caller]
    pub(super) fn wait_until_settled(&self, count: usize) -> Counts {
        self.wait_until("everything to be settled", |counts| {
            counts.synced + counts.quarantined == count as u64
        })
    }

    /// Every valid record is in the CRM once, in order, and the device has its receipt. Every invalid record is under
    /// review with the words of the CRM. Returns the report of the CRM.
    #[track_caller]
    pub(super) fn assert_outcome(&self, records: &[CrmRecord], ids: &[String]) -> Value {
        self.assert_details(records, ids, &self.read_details(ids))
    }

    pub(super) fn read_details(&self, ids: &[String]) -> Vec<Value> {
        read_details(&self.daemon.home.socket(), ids)
    }

    /// As [`Self::assert_outcome`], with what the devices say of these records.
    #[track_caller]
    pub(super) fn assert_details(&self, records: &[CrmRecord], ids: &[String], details: &[Value]) -> Value {
        let stored = self.crm.stored();
        let kind = self.crm.kind;
        for ((record, id), detail) in records.iter().zip(ids).zip(details) {
            if let Some(defect) = record.defect {
                let error = &detail["last_error"];
                let state = (&detail["state"], &detail["receipt"]);
                assert_eq!(state, (&json!("QUARANTINED"), &Value::Null), "{detail}");
                assert_eq!(error["code"], defect.code(kind), "{detail}");
                assert_eq!(error["field"], defect.field(), "{detail}");
                assert!(!error["message"].as_str().unwrap().is_empty(), "{detail}");
                assert!(!stored.contains_key(id), "the CRM has what it refused: {detail}");
                continue;
            }
            assert_eq!(detail["state"], "SYNCED", "{detail}");
            let at_crm = stored.get(id).unwrap_or_else(|| panic!("the CRM lacks a record: {detail}"));
            let (receipt, module) = (&detail["receipt"], kind.module(record.record_type()));
            assert_eq!(receipt["id"], at_crm.id, "{detail}");
            assert_eq!((&receipt["module"], at_crm.module), (&json!(module), module), "{detail}");
            let action = receipt["action"].as_str().unwrap();
            assert!(["insert", "update", "exists"].contains(&action), "{detail}");
            assert_eq!(at_crm.fields[kind.key_field()].as_str(), record.key(), "{detail}");
            assert_eq!(at_crm.fields[kind.order_field()], record.value["payload"][ORDER_MEMBER]);
        }
        let expected: HashSet<&String> =
            records.iter().zip(ids).filter(|(record, _)| record.defect.is_none()).map(|(_, id)| id).collect();
        assert_eq!(stored.len(), expected.len(), "the CRM has records that were not enqueued");
        self.crm.assert_clean()
    }
}
