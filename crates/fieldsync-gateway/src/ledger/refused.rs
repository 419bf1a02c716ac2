//! The part of a ledger for records that forwarding set aside.
//!
//! Records of one device and key are a lane. A lane is blocked while its first record was refused, or waits until
//! the receiver takes it. The record and all later ones of its lane then move from the outbox to a table of their own,
//! where each is read once more: when its turn has come. A record without a key is a lane of its own.

use serde::Serialize;
use uuid::Uuid;

use super::{AppliedRecord, LedgerError, OutboxEntry, PageLimit};
use crate::digest::sha256_of_parts;
use crate::model::RecordId;

/// A lane: a digest, so that rows have the same size however long a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LaneId(pub(crate) Uuid);

impl LaneId {
    /// The lane of a record.
    pub(crate) fn of_record(record: &AppliedRecord) -> Self {
        let seq = record.seq.to_be_bytes();
        let (kind, name): (&[u8], &[u8]) = match &record.key {
            Some(key) => (b"key", key.as_bytes()),
            None => (b"seq", &seq),
        };
        let digest = sha256_of_parts(&[record.device.0.as_bytes(), kind, name]);
        Self(Uuid::from_bytes(digest.first_chunk().copied().unwrap_or_default()))
    }
}

/// Why a record was not accepted, in the words of the receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct HoldReason {
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
    /// The faulty part of the payload, as a JSON Pointer.
    pub(crate) field: Option<String>,
}

/// What became of a record that was to be forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ForwardVerdict {
    /// The receiver has it.
    Passed,
    /// It blocks its lane. It is sent again at `due_at` (wall milliseconds), or if refused, after a review.
    Held { due_at: Option<u64>, reason: HoldReason },
    /// It waits behind an earlier record of its lane.
    Behind,
}

/// Where the records of a page come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageSource {
    /// The outbox.
    Outbox,
    /// The blocked lanes.
    Lanes,
}

/// The verdicts on a page, in its order.
#[derive(Debug)]
pub(crate) struct PageSettlement {
    pub(crate) source: PageSource,
    pub(crate) records: Vec<(OutboxEntry, ForwardVerdict)>,
    /// Wall milliseconds.
    pub(crate) now: u64,
}

impl PageSettlement {
    pub(crate) fn count_records(&self) -> u64 {
        u64::try_from(self.records.len()).unwrap_or(u64::MAX)
    }

    pub(crate) fn count_passed(&self) -> u64 {
        let passed = self.records.iter().filter(|(_, verdict)| *verdict == ForwardVerdict::Passed);
        u64::try_from(passed.count()).unwrap_or(u64::MAX)
    }

    pub(crate) fn has_held(&self) -> bool {
        self.records.iter().any(|(_, verdict)| matches!(verdict, ForwardVerdict::Held { .. }))
    }
}

/// A record of a lane whose turn has come.
#[derive(Debug)]
pub(crate) struct LaneRecord {
    pub(crate) entry: OutboxEntry,
    /// How often the receiver did not take it.
    pub(crate) attempts: u32,
}

/// The records of blocked lanes whose turn has come.
#[derive(Debug, Default)]
pub(crate) struct LanePage {
    /// In order within each lane.
    pub(crate) records: Vec<LaneRecord>,
    /// When the next lane is due, if the page is empty.
    pub(crate) next_due_at: Option<u64>,
}

/// A record under review.
#[derive(Debug)]
pub(crate) struct RefusedEntry {
    pub(crate) entry: OutboxEntry,
    pub(crate) reason: HoldReason,
    /// Wall milliseconds.
    pub(crate) refused_at: u64,
    pub(crate) attempts: u32,
}

/// What a review decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReviewDecision {
    /// The record is sent again.
    Retry,
    /// The record is dropped; the next one of its lane follows.
    Discard,
}

/// How many records and lanes wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LaneCounts {
    /// Records under review.
    pub(crate) refused: u64,
    /// Records behind the first of a blocked lane.
    pub(crate) parked: u64,
    /// Blocked lanes, those of refused records among them.
    pub(crate) lanes: u64,
}

/// The lanes of a ledger. Each operation is one transaction.
pub(crate) trait RefusedLedger {
    /// Which of these lanes are blocked.
    fn blocked_lanes(&self, lanes: &[LaneId]) -> Result<Vec<LaneId>, LedgerError>;

    /// The records whose turn has come at `now`, at most `per_lane` of each lane.
    fn next_lane_records(&self, now: u64, limit: PageLimit, per_lane: usize)
    -> Result<LanePage, LedgerError>;

    /// Stores the verdicts on a page. Records of the outbox leave it: those that did not pass for their lanes. Returns
    /// false, and stores nothing, if another gateway forwards now.
    fn settle_page(&self, settlement: &PageSettlement) -> Result<bool, LedgerError>;

    /// The records under review, in the order of their ids, after that of `after`.
    fn refused_after(
        &self,
        after: Option<RecordId>,
        limit: PageLimit,
    ) -> Result<Vec<RefusedEntry>, LedgerError>;

    /// A record under review.
    fn refused_record(&self, id: RecordId) -> Result<Option<RefusedEntry>, LedgerError>;

    /// Decides on records under review; other ids are ignored. Returns how many were under review.
    fn review_records(
        &self,
        ids: &[RecordId],
        decision: ReviewDecision,
        now: u64,
    ) -> Result<u64, LedgerError>;

    /// Replaces the payload of a record under review, which is then sent again. Returns false if it is not under
    /// review.
    fn replace_refused_payload(&self, id: RecordId, payload: &str, now: u64) -> Result<bool, LedgerError>;

    /// How many records and lanes wait.
    fn lane_counts(&self) -> Result<LaneCounts, LedgerError>;
}
