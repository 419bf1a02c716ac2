//! The shapes of `GET /v1/telemetry`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::as_rfc3339;
use crate::model::InterfaceKind;

/// `GET /v1/telemetry`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TelemetryReport {
    /// The configured period. The report covers whole days in UTC, today included.
    pub window_s: u64,
    /// The start of the first day that is covered.
    #[serde(with = "as_rfc3339", default)]
    #[schema(value_type = String, format = DateTime, required = true)]
    pub from: u64,
    /// The time of the report.
    #[serde(with = "as_rfc3339", default)]
    #[schema(value_type = String, format = DateTime, required = true)]
    pub to: u64,
    /// The duration per record.
    pub per_record: PerRecord,
    /// What a successful batch takes besides what its records cost; null if that cannot be separated.
    #[serde(default)]
    #[schema(required = true)]
    pub batch_overhead_ms: Option<f64>,
    /// Results by batch size.
    pub by_batch_size: Vec<SizeBucket>,
    /// Results by the number of batches that were under way at once.
    #[serde(default)]
    #[schema(required = true)]
    pub by_in_flight: Vec<InFlightBucket>,
    /// The record types, the slowest first.
    pub by_type: Vec<TypeReport>,
    /// Network conditions during failures, by class of failure.
    pub failures: Vec<FailureReport>,
    /// The days, the newest first.
    pub days: Vec<DayReport>,
    /// The hours, the newest first. They go back eight days at most.
    #[serde(default)]
    #[schema(required = true)]
    pub hours: Vec<HourReport>,
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

/// What became of batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Outcomes {
    /// Batches that were sent.
    pub batches: u64,
    /// Batches that got a result for each record.
    pub succeeded: u64,
    /// Batches that got a 504, or no response in time.
    #[serde(default)]
    #[schema(required = true)]
    pub timeouts: u64,
    /// Batches that the server did not accept: denied, throttled, too large.
    #[serde(default)]
    #[schema(required = true)]
    pub refused: u64,
    /// Batches that failed in another way.
    #[serde(default)]
    #[schema(required = true)]
    pub other_failures: u64,
    /// Records in the batches that succeeded.
    #[serde(default)]
    #[schema(required = true)]
    pub records: u64,
    /// The share of batches that succeeded; null if none was sent.
    #[serde(default)]
    #[schema(required = true)]
    pub success_rate: Option<f64>,
    /// Records in successful batches, per second of sending. The time of failed batches counts, and batches that are
    /// under way at once share the time. Null if nothing was measured.
    #[serde(default)]
    #[schema(required = true)]
    pub records_per_s: Option<f64>,
}

/// Batches of one range of sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SizeBucket {
    /// The range, for example `11–25`.
    pub size: String,
    /// What became of them.
    #[serde(flatten)]
    pub outcomes: Outcomes,
    /// The mean duration of those that succeeded.
    #[serde(default)]
    #[schema(required = true)]
    pub mean_ms: Option<f64>,
    /// The mean duration that was expected of those that succeeded, when they were sent.
    #[serde(default)]
    #[schema(required = true)]
    pub expected_ms: Option<f64>,
    /// How many of those that succeeded had an expected duration.
    #[serde(default)]
    #[schema(required = true)]
    pub expected: u64,
}

/// Batches that were sent while so many were under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InFlightBucket {
    /// How many, itself included, for example `3–4`.
    pub in_flight: String,
    /// What became of them.
    #[serde(flatten)]
    pub outcomes: Outcomes,
}

/// Records of one type.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TypeReport {
    /// The type. Of each day, sixteen types have an entry of their own, and the others share `(other types)`.
    #[serde(rename = "type")]
    pub record_type: String,
    /// Records in batches that got a result for each record.
    pub records: u64,
    /// The duration per record of the batches that contained the type.
    #[serde(default)]
    #[schema(required = true)]
    pub per_record: PerRecord,
    /// What a record of the type costs, separated from the other types of its batches.
    pub ms_per_record: f64,
    /// Whether it could be separated. If not, the duration of each batch was divided evenly among its records.
    #[serde(default)]
    #[schema(required = true)]
    pub is_separated: bool,
    /// The time that its records took, including failed attempts.
    #[serde(default)]
    #[schema(required = true)]
    pub delay_ms: f64,
    /// The part of that time that went into failed attempts: the duration of each, divided evenly among its records.
    #[serde(default)]
    #[schema(required = true)]
    pub failed_ms: f64,
    /// The type's share of the time that the records of all types took.
    #[serde(default)]
    #[schema(required = true)]
    pub delay_share: f64,
    /// Failed attempts to send them.
    pub failures: u64,
    /// Records that were quarantined.
    pub quarantined: u64,
}

/// The network conditions during failures of one class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FailureReport {
    /// The class of the response, or why there was none.
    pub class: String,
    /// Number of failures.
    pub count: u64,
    /// The kind of interface during most of them; null if the system does not report it.
    #[schema(value_type = Option<InterfaceKind>, required = true)]
    pub interface: Option<String>,
    /// The kinds of interface during them, the most frequent first.
    #[serde(default)]
    #[schema(required = true)]
    pub interfaces: Vec<InterfaceCount>,
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
    /// Failures on a link that the system reports as metered.
    #[serde(default)]
    #[schema(required = true)]
    pub metered: u64,
    /// Mean time since the link came up; null if the daemon did not notice that it came up.
    #[serde(default)]
    #[schema(required = true)]
    pub link_age_s: Option<f64>,
    /// Failures by the hour of the day, in the time zone of the device: 24 numbers from midnight.
    #[serde(default)]
    #[schema(required = true)]
    pub by_hour: Vec<u64>,
}

/// Failures on one kind of interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InterfaceCount {
    /// The kind of interface.
    #[schema(value_type = InterfaceKind)]
    pub interface: String,
    /// Number of failures.
    pub count: u64,
}

/// One day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DayReport {
    /// The date in UTC, such as `2026-03-01`.
    #[schema(format = Date)]
    pub day: String,
    /// What was measured.
    #[serde(flatten)]
    pub period: PeriodReport,
}

/// One hour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HourReport {
    /// Its start.
    #[serde(with = "as_rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub hour: u64,
    /// What was measured.
    #[serde(flatten)]
    pub period: PeriodReport,
}

/// What was measured in a day or an hour.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PeriodReport {
    /// The duration per record.
    pub per_record: PerRecord,
    /// What became of the batches.
    #[serde(flatten)]
    pub outcomes: Outcomes,
    /// Records that were quarantined.
    pub quarantined: u64,
}
