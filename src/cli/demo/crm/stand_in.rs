//! The stand-in for a CRM: it is started, or runs already. It reports what it has.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::target::{CrmKind, CrmTarget};
use super::{CRM_TIME_LIMIT, RECORD_COST};
use crate::cli::demo::environment::{DemoEnvironment, STAND_IN_PROGRAM, fetch_text};
use crate::cli::failure::CommandFailure;
use crate::model::RecordId;

/// A stand-in that runs.
pub(super) struct StandIn {
    pub(super) kind: CrmKind,
    pub(super) address: SocketAddr,
    /// Whether the demo started it.
    pub(super) is_ours: bool,
}

/// Its counts, as far as the demo shows them.
#[derive(Debug, Deserialize)]
pub(super) struct CrmReport {
    crm: String,
    pub(super) modules: BTreeMap<String, ModuleCounts>,
    /// Answers by HTTP status, or by what came instead of an answer.
    pub(super) responses: BTreeMap<String, u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ModuleCounts {
    pub(super) duplicates: u64,
    pub(super) merges: u64,
    #[serde(default)]
    pub(super) order_violations: u64,
}

impl StandIn {
    pub(super) async fn find_or_start(
        target: &CrmTarget,
        environment: &mut DemoEnvironment,
    ) -> Result<Self, CommandFailure> {
        match target {
            CrmTarget::Start(kind) => {
                let address = environment.start_server(STAND_IN_PROGRAM, |command, _| {
                    command.args(start_arguments(*kind));
                })?;
                Ok(Self { kind: *kind, address, is_ours: true })
            }
            CrmTarget::Running(address) => {
                let name = read_report(*address).await?.crm;
                let kind = CrmKind::from_name(&name).ok_or_else(|| {
                    CommandFailure::failed(format!(
                        "the stand-in at {address} plays {name}, which the demo does not know."
                    ))
                })?;
                Ok(Self { kind, address: *address, is_ours: false })
            }
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) async fn read_report(&self) -> Result<CrmReport, CommandFailure> {
        read_report(self.address).await
    }

    /// The records that it has: how often it has each record of a device.
    pub(super) async fn read_records(&self) -> Result<HashMap<RecordId, u64>, CommandFailure> {
        #[derive(Deserialize)]
        struct StoredRecord {
            fields: HashMap<String, Value>,
        }
        let id_field = format!("Fieldsync_Id{}", self.kind.custom_suffix());
        let mut stored = HashMap::new();
        for module in self.kind.modules() {
            let lines = fetch_text(self.address, &format!("/stand-in/records?module={module}")).await?;
            for line in lines.lines() {
                let record: StoredRecord =
                    serde_json::from_str(line).map_err(|error| unreadable("a record", &error))?;
                let id = record.fields.get(&id_field).and_then(Value::as_str);
                if let Some(id) = id.and_then(|id| id.parse().ok()) {
                    *stored.entry(id).or_default() += 1;
                }
            }
        }
        Ok(stored)
    }
}

fn start_arguments(kind: CrmKind) -> Vec<String> {
    let suffix = kind.custom_suffix();
    let milliseconds = |time: Duration| format!("{}ms", time.as_millis());
    let options = [
        ("--key-field", format!("Fieldsync_Key{suffix}")),
        ("--order-field", format!("Fieldsync_Seq{suffix}")),
        ("--time-limit", milliseconds(CRM_TIME_LIMIT)),
        ("--record-cost", milliseconds(RECORD_COST)),
    ];
    let options = options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
    std::iter::once(kind.name().to_owned()).chain(options).collect()
}

async fn read_report(address: SocketAddr) -> Result<CrmReport, CommandFailure> {
    let text = fetch_text(address, "/stand-in/report").await?;
    serde_json::from_str(&text).map_err(|error| unreadable("the report", &error))
}

fn unreadable(what: &str, error: &serde_json::Error) -> CommandFailure {
    CommandFailure::failed(format!("{what} of the stand-in cannot be decoded: {error}."))
}
