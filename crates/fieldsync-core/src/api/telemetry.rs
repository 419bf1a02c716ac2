//! The shapes of `GET /v1/telemetry`, apart from the others because they are many.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::InterfaceKind;

/// `GET /v1/telemetry`: the four questions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TelemetryReport {
    /// How far back the first four go.
    pub window_s: u64,
    /// Average sync duration per record.
    pub per_record: PerRecord,
    /// Success by batch size.
    pub by_batch_size: Vec<SizeBucket>,
    /// The record types that cause delays, slowest first.
    pub by_type: Vec<TypeReport>,
    /// Network conditions at failures, by class.
    pub failures: Vec<FailureReport>,
    /// The first question, day by day, the newest first.
    pub days: Vec<DayReport>,
}

/// How long a record takes: a batch's duration divided by its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PerRecord {
    /// Records measured.
    pub records: u64,
    /// Mean.
    pub mean_ms: f64,
    /// Median.
    pub p50_ms: u64,
    /// 95 in 100 are quicker.
    pub p95_ms: u64,
}

/// How batches of one range of sizes fare.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SizeBucket {
    /// For example `11–25`.
    pub size: String,
    /// Sent.
    pub batches: u64,
    /// Answered by the server.
    pub succeeded: u64,
    /// Share, when any was sent.
    #[schema(required = true)]
    pub success_rate: Option<f64>,
}

/// How records of one type fare.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TypeReport {
    /// The type.
    #[serde(rename = "type")]
    pub record_type: String,
    /// Synced.
    pub records: u64,
    /// Share of their batches' time.
    pub ms_per_record: f64,
    /// Sends that failed.
    pub failures: u64,
    /// Set aside.
    pub quarantined: u64,
}

/// What the network was like when a class of failure happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FailureReport {
    /// The class of the answer.
    pub class: String,
    /// How often.
    pub count: u64,
    /// Kind of the interface at most of them, where the system tells.
    #[schema(value_type = Option<InterfaceKind>, required = true)]
    pub interface: Option<String>,
    /// Mean time to connect, where a connection was made.
    #[schema(required = true)]
    pub connect_ms: Option<f64>,
    /// Mean round trip, as the kernel measured it.
    #[schema(required = true)]
    pub round_trip_ms: Option<f64>,
    /// Mean upload rate.
    #[schema(required = true)]
    pub bytes_per_s: Option<f64>,
    /// Signal, where the system tells.
    #[schema(required = true)]
    pub signal_dbm: Option<f64>,
}

/// One day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DayReport {
    /// `2026-03-01`, UTC.
    #[schema(format = Date)]
    pub day: String,
    /// How long a record took.
    pub per_record: PerRecord,
    /// Batches sent.
    pub batches: u64,
    /// Batches answered.
    pub succeeded: u64,
    /// Records set aside.
    pub quarantined: u64,
}
