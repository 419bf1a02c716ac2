//! Families and alerts as OTLP in its JSON encoding: field names in camelCase, 64-bit integers as strings, enums as
//! numbers.
//!
//! Only what this program sends is here. OTLP allows more.

mod logs;
mod metrics;

use serde::Serialize;

pub use logs::{AlertLogRecord, encode_logs};
pub use metrics::encode_metrics;

/// What the signals are about: this device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The id of the device.
    pub device_id: String,
    /// The name of the device, for people.
    pub device_name: String,
}

/// The name of the product in OTLP.
const SERVICE_NAME: &str = "fieldsync";

#[derive(Serialize)]
struct ResourceMessage {
    attributes: Vec<KeyValue>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
struct KeyValue {
    key: &'static str,
    value: AnyValue,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum AnyValue {
    StringValue(String),
    BoolValue(bool),
}

impl KeyValue {
    fn text(key: &'static str, value: impl Into<String>) -> Self {
        Self { key, value: AnyValue::StringValue(value.into()) }
    }

    fn flag(key: &'static str, value: bool) -> Self {
        Self { key, value: AnyValue::BoolValue(value) }
    }
}

fn resource_message(resource: &Resource) -> ResourceMessage {
    ResourceMessage {
        attributes: vec![
            KeyValue::text("service.name", SERVICE_NAME),
            KeyValue::text("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::text("service.instance.id", resource.device_id.clone()),
            KeyValue::text("host.name", resource.device_name.clone()),
        ],
    }
}

fn scope() -> Scope {
    Scope { name: SERVICE_NAME, version: env!("CARGO_PKG_VERSION") }
}

/// A time in OTLP, from wall milliseconds.
fn unix_nanoseconds(wall_ms: u64) -> String {
    (u128::from(wall_ms) * 1_000_000).to_string()
}
