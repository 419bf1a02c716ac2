//! What the families are built from.

use std::time::Duration;

use super::counters::Counters;
use super::histogram::Histogram;
use super::process::ProcessUsage;
use crate::api::Status;
use crate::model::{Backlog, Link};
use crate::policy::alerts::facts::CredentialExpiry;

/// Seconds of commits: from flash that is idle to a card that stalls.
const COMMIT_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Times of commits, which the store measures.
pub fn commit_times() -> Histogram {
    Histogram::new(COMMIT_SECONDS)
}

/// What the exporter of OTLP counts since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportCounts {
    /// Pushes that the collector accepted, at least partly.
    pub accepted: u64,
    /// Pushes that are repeated later: no response, or a temporary one.
    pub failed: u64,
    /// Pushes that the collector refused.
    pub refused: u64,
    /// Records of alerts that were never accepted.
    pub dropped_log_records: u64,
}

/// What the families are built from.
pub struct MetricSources<'a> {
    /// The status, without redactions.
    pub status: &'a Status,
    /// Its backlog.
    pub backlog: &'a Backlog,
    /// Its link.
    pub link: &'a Link,
    /// What was counted.
    pub counters: &'a Counters,
    /// How long commits took.
    pub commits: &'a Histogram,
    /// What was pushed.
    pub exports: &'a ExportCounts,
    /// When the credentials expire.
    pub expiry: CredentialExpiry,
    /// The clock of the device minus that of the server, at the last response that named it.
    pub clock_offset_ms: Option<i64>,
    /// The learned time per record.
    pub per_record: Option<Duration>,
    /// The learned time of a batch that does not depend on its records.
    pub start_up: Option<Duration>,
    /// What the process uses.
    pub process: &'a ProcessUsage,
    /// When the daemon started, by the present wall clock.
    pub started_at: u64,
    /// The time, in wall milliseconds.
    pub now: u64,
}
