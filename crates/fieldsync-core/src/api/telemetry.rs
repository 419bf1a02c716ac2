//! The shapes of `GET /v1/telemetry`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::InterfaceKind;

/// `GET /v1/telemetry`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TelemetryReport {
    /// The period that is covered, except by `days`.
    pub window_s: u64,
    /// Average sync duration per record.
    pub per_record: PerRecord,
    /// Success by batch size.
    pub by_batch_size: Vec<SizeBucket>,
    /// The record types, the slowest first.
    pub by_type: Vec<TypeReport>,
    /// Network conditions during failures, by class of failure.
    pub failures: Vec<FailureReport>,
    /// The duration per record and the batches of each day, the newest first.
    pub days: Vec<DayReport>,
}

/// The duration per record: a batch's duration divided by the number of its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PerRecord {
    /// Records measured.
    pub records: u64,
    /// Mean.
    pub mean_ms: f64,
    /// Median.
    pub p50_ms: u64,
    /// 95 of 100 records take less time.
    pub p95_ms: u64,
}

/// Batches of one range of sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SizeBucket {
    /// The range, for example `11–25`.
    pub size: String,
    /// Batches that were sent.
    pub batches: u64,
    /// Batches that got a result for each record.
    pub succeeded: u64,
    /// Their share; null if none was sent.
    #[schema(required = true)]
    pub success_rate: Option<f64>,
}

/// Records of one type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TypeReport {
    /// The type.
    #[serde(rename = "type")]
    pub record_type: String,
    /// Records in batches that got a result for each record.
    pub records: u64,
    /// Their share of the duration of their batches, per record.
    pub ms_per_record: f64,
    /// Failed attempts to send them.
    pub failures: u64,
    /// Records that were quarantined.
    pub quarantined: u64,
}

/// The network conditions during failures of one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FailureReport {
    /// The class of the response, or why there was none.
    pub class: String,
    /// Number of failures.
    pub count: u64,
    /// The kind of interface during most of them; null if the system does not report it.
    #[schema(value_type = Option<InterfaceKind>, required = true)]
    pub interface: Option<String>,
    /// Mean time to connect; null if there was no connection.
    #[schema(required = true)]
    pub connect_ms: Option<f64>,
    /// Mean round-trip time, as measured by the kernel.
    #[schema(required = true)]
    pub round_trip_ms: Option<f64>,
    /// Mean upload rate.
    #[schema(required = true)]
    pub bytes_per_s: Option<f64>,
    /// Mean signal strength; null if the system does not report it.
    #[schema(required = true)]
    pub signal_dbm: Option<f64>,
}

/// One day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DayReport {
    /// The date in UTC, such as `2026-03-01`.
    #[schema(format = Date)]
    pub day: String,
    /// The duration per record.
    pub per_record: PerRecord,
    /// Batches that were sent.
    pub batches: u64,
    /// Batches that got a result for each record.
    pub succeeded: u64,
    /// Records that were quarantined.
    pub quarantined: u64,
}
