//! Alerts as an `ExportLogsServiceRequest`: a record when one starts, and one when it ends.

use serde::Serialize;

use super::{
    AnyValue, KeyValue, Resource, ResourceMessage, Scope, resource_message, scope, unix_nanoseconds,
};
use crate::api::{AlertChange, AlertSeverity};

/// `SEVERITY_NUMBER_INFO`
const SEVERITY_INFO: u8 = 9;
/// `SEVERITY_NUMBER_WARN`
const SEVERITY_WARN: u8 = 13;
/// `SEVERITY_NUMBER_ERROR`
const SEVERITY_ERROR: u8 = 17;

/// An alert that started or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertLogRecord {
    /// Its name.
    pub alert: String,
    /// What is wrong, for people.
    pub message: String,
    /// What to do, for people; empty if the message says it.
    pub remedy: String,
    /// Whether it is critical, and not only a warning.
    pub is_critical: bool,
    /// Whether it started. Else it ended.
    pub is_active: bool,
    /// When it started or ended, in wall milliseconds.
    pub at: u64,
}

impl AlertLogRecord {
    /// A change at this time.
    pub fn new(change: &AlertChange, at: u64) -> Self {
        let AlertChange { alert, active } = change;
        Self {
            alert: alert.alert.to_string(),
            message: alert.message.clone(),
            remedy: alert.remedy.clone(),
            is_critical: alert.severity == AlertSeverity::Critical,
            is_active: *active,
            at,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExportRequest {
    resource_logs: [ResourceLogs; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceLogs {
    resource: ResourceMessage,
    scope_logs: [ScopeLogs; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ScopeLogs {
    scope: Scope,
    log_records: Vec<LogRecord>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LogRecord {
    time_unix_nano: String,
    observed_time_unix_nano: String,
    severity_number: u8,
    severity_text: &'static str,
    event_name: &'static str,
    body: AnyValue,
    attributes: Vec<KeyValue>,
}

/// Encodes the records, in their order.
pub fn encode_logs(records: &[AlertLogRecord], resource: &Resource) -> serde_json::Result<Vec<u8>> {
    let log_records = records.iter().map(log_record).collect();
    serde_json::to_vec(&ExportRequest {
        resource_logs: [ResourceLogs {
            resource: resource_message(resource),
            scope_logs: [ScopeLogs { scope: scope(), log_records }],
        }],
    })
}

fn log_record(record: &AlertLogRecord) -> LogRecord {
    let AlertLogRecord { alert, message, remedy, is_critical, is_active, at } = record;
    let (severity_number, severity_text) = match (is_active, is_critical) {
        (true, true) => (SEVERITY_ERROR, "ERROR"),
        (true, false) => (SEVERITY_WARN, "WARN"),
        (false, _) => (SEVERITY_INFO, "INFO"),
    };
    let (event_name, state) = match is_active {
        true => ("fieldsync.alert.started", "started"),
        false => ("fieldsync.alert.ended", "ended"),
    };
    let mut attributes = vec![
        KeyValue::text("fieldsync.alert.name", alert.clone()),
        KeyValue::text("fieldsync.alert.severity", if *is_critical { "critical" } else { "warning" }),
        KeyValue::flag("fieldsync.alert.active", *is_active),
    ];
    if !remedy.is_empty() {
        attributes.push(KeyValue::text("fieldsync.alert.remedy", remedy.clone()));
    }
    LogRecord {
        time_unix_nano: unix_nanoseconds(*at),
        observed_time_unix_nano: unix_nanoseconds(*at),
        severity_number,
        severity_text,
        event_name,
        body: AnyValue::StringValue(format!("alert {alert} {state}: {message}")),
        attributes,
    }
}
