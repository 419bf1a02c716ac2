//! A batch: its records, and what is known of it until it is settled.

use std::fmt;

use serde::{Deserialize, Serialize};
use strum::Display;
use utoipa::ToSchema;

use super::{BatchId, LastError, ManifestEntry, QueuePosition, RecordId};

/// `i/N`: the i-th of the N batches now planned for this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// From 1.
    pub index: u32,
    /// At least `index`.
    pub total: u32,
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.total)
    }
}

/// How far the search for a faulty record has narrowed a batch down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Claimed from the queue; it has not failed.
    Fresh,
    /// Half of a batch that failed.
    Half,
    /// A micro-batch of a half that failed.
    Micro,
    /// One record of a micro-batch that failed.
    Single,
}

/// A record in a batch, with everything that is needed to send it and to process its result.
#[derive(Clone, Debug)]
pub struct BatchRecord {
    /// The record.
    pub id: RecordId,
    /// What kind of record it is.
    pub record_type: String,
    /// Its ordering key.
    pub key: Option<String>,
    /// 0 to 9; 9 is sent first.
    pub priority: u8,
    /// When it was accepted, in wall milliseconds.
    pub created_at: u64,
    /// The JSON object, byte for byte.
    pub payload: Box<str>,
}

/// A batch that is on disk and may be sent.
#[derive(Clone, Debug)]
pub struct Batch {
    /// What the planner tracks.
    pub open: OpenBatch,
    /// `i/N`, fixed at its first send.
    pub sequence: Sequence,
    /// The records, in queue order.
    pub records: Vec<BatchRecord>,
}

/// A batch on disk that is not settled: in flight, unclear, or waiting to be sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenBatch {
    /// The batch.
    pub id: BatchId,
    /// The batch that it was split from.
    pub parent: Option<BatchId>,
    /// How far the search has come.
    pub stage: Stage,
    /// Why it has its size.
    pub rule: SizeRule,
    /// The position of its first record.
    pub place: QueuePosition,
    /// How many records.
    pub records: usize,
    /// Sum of the payloads.
    pub bytes: u64,
    /// How often it was sent under this id.
    pub attempt: u32,
    /// Failures of its only record that count: other records succeeded before and after each.
    pub lone_failures: u32,
    /// What is known of its last send.
    pub phase: BatchPhase,
}

/// What is known of a batch's last send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BatchPhase {
    /// It may be in flight.
    InFlight,
    /// It failed, but the server may have applied it.
    Unclear,
    /// The server does not have it: it waits to be sent.
    Waiting,
}

/// Which rule gave a batch its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Display, ToSchema)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum SizeRule {
    /// More records wait than `large_queue_records`.
    LargeQueue,
    /// More bytes wait than `large_payload_bytes`.
    LargePayload,
    /// Neither of them.
    Standard,
    /// By the measured times, a larger batch might not fit the time limit.
    Learned,
    /// The breaker asked for micro-batches.
    Micro,
    /// A part of a batch that failed.
    Split,
    /// The server asked for no more.
    ServerHint,
}

impl SizeRule {
    /// The name in the API and in the journal.
    pub fn name(self) -> &'static str {
        match self {
            Self::LargeQueue => "large_queue",
            Self::LargePayload => "large_payload",
            Self::Standard => "standard",
            Self::Learned => "learned",
            Self::Micro => "micro",
            Self::Split => "split",
            Self::ServerHint => "server_hint",
        }
    }
}

/// Why no more batches may be under way at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Display, ToSchema)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum InFlightRule {
    /// `batch.max_in_flight`.
    Configured,
    /// The server asked for no more.
    ServerHint,
    /// The server responded 429 to more.
    Throttled,
    /// Measured responses show that more would gain too little, or that each would be too small.
    Measured,
    /// More are being tried.
    Trial,
    /// The breaker asks for micro-batches or a pause, or the server denies requests.
    Breaker,
    /// Too few responses were measured.
    #[default]
    FirstMeasurements,
    /// Too little waits for more batches, or their size is still growing.
    NotNeeded,
}

impl InFlightRule {
    /// The name in the API and in the journal.
    pub fn name(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::ServerHint => "server_hint",
            Self::Throttled => "throttled",
            Self::Measured => "measured",
            Self::Trial => "trial",
            Self::Breaker => "breaker",
            Self::FirstMeasurements => "first_measurements",
            Self::NotNeeded => "not_needed",
        }
    }
}

/// A batch that is denied while others succeed, which suggests that one of its records is faulty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeniedSet {
    /// The batch.
    pub batch_id: BatchId,
    /// How many records it has.
    pub records: usize,
    /// How often in a row it was denied.
    pub denials: u32,
    /// The last denial.
    pub error: LastError,
}

/// A record, and how far its open batch is, if it is in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordStanding {
    /// What the manifest knows.
    pub entry: ManifestEntry,
    /// What is known of the last send of its batch.
    pub batch_phase: Option<BatchPhase>,
}
