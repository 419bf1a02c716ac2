//! What the scheduler decides by, and what it decides.

use std::time::Duration;

use crate::config::Config;
use crate::model::{
    Backlog, BatchId, BatchPhase, Deferral, LastError, LinkState, Phase, RecordId, Sequence, WaitCause,
};
use crate::policy::breaker::BreakerState;
use crate::policy::isolation::Cut;
use crate::policy::sizing::BatchLimit;
use crate::protocol::receipt::Receipt;

/// The present state of everything that a decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Since the daemon started.
    pub now: Duration,
    /// The wall clock, for error entries.
    pub wall_ms: u64,
    /// The clock for due times of records.
    pub steady_ms: u64,
    /// The present configuration.
    pub config: &'a Config,
    /// The records that wait.
    pub backlog: &'a Backlog,
    /// The state of the link.
    pub link: LinkState,
    /// Why sending is deferred although the link works.
    pub deferral: Option<Deferral>,
    /// The state of the circuit breaker.
    pub breaker: BreakerState,
}

/// What the driver does next.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Claim new records from the queue and send them.
    Claim(ClaimOrder),
    /// Send an open batch.
    Send(BatchId, Sequence),
    /// Ask the server for the outcome of a batch: of an open one, or, to see whether the server responds at all, of
    /// the last one.
    QueryOutcome(BatchId),
    /// Quarantine the one record of this batch: the evidence is complete.
    Quarantine(BatchId),
    /// Cut this batch although it did not fail: the breaker asks for micro-batches, and it is larger; or it is denied
    /// again and again, and no smaller batch is there to show whether every batch is.
    Divide(BatchId),
    /// Send a record once more that the server has, to see whether others get through.
    SendCanary(Sequence),
    /// Nothing, until something changes or the time comes.
    Rest {
        /// Why.
        phase: Phase,
        /// When to ask again, at the latest.
        until: Option<Duration>,
        /// What the phase `waiting` waits for until then.
        cause: Option<WaitCause>,
    },
}

/// What a claim may take.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimOrder {
    /// The size and why.
    pub limit: BatchLimit,
    /// For the header.
    pub sequence: Sequence,
    /// No two records with the same key: the server has not shown that it keeps their order within a batch.
    pub one_per_key: bool,
}

/// The server's code for a record behind another of its key that it did not apply.
pub(in crate::policy) const HELD_CODE: &str = "HELD";

/// How a batch continues on disk.
#[derive(Clone, Debug, PartialEq)]
pub enum Disposition {
    /// Each record is settled by its own outcome; those without one as `missing` says.
    Close {
        /// In the order of the response; the store ignores ids of other batches.
        outcomes: Vec<(RecordId, Outcome)>,
        /// For records without a result.
        missing: Outcome,
        /// The wait that the server asks for. Records that are tried again wait at least that long.
        retry_after: Duration,
    },
    /// The batch stays open under its id.
    Keep {
        /// What is known of its last send.
        phase: BatchPhase,
        /// Counted failures alone.
        lone_failures: u32,
        /// When given, its records are FAILED with it, and the attempt counts.
        error: Option<LastError>,
    },
    /// Its parts continue under ids of their own.
    Cut {
        /// How.
        cut: Cut,
        /// As in `Keep`.
        error: Option<LastError>,
    },
    /// The same records continue under a new id.
    Rename {
        /// As in `Keep`.
        lone_failures: u32,
    },
}

impl Disposition {
    /// All records of the batch have the same outcome.
    pub fn close_all(outcome: Outcome) -> Self {
        Self::Close { outcomes: Vec::new(), missing: outcome, retry_after: Duration::ZERO }
    }

    /// Why the server wants records to be sent again. A record that is only behind another one is not the reason.
    pub fn retry_reason(&self) -> Option<&LastError> {
        let Self::Close { outcomes, .. } = self else { return None };
        outcomes.iter().find_map(|(_, outcome)| match outcome {
            Outcome::Retry(error) if error.code.as_deref() != Some(HELD_CODE) => Some(error),
            Outcome::Retry(_) | Outcome::Synced(_) | Outcome::Quarantine(_) => None,
        })
    }

    /// The batch waits to be sent again; nothing counts against its records.
    pub(super) fn keep_waiting(lone_failures: u32) -> Self {
        Self::Keep { phase: BatchPhase::Waiting, lone_failures, error: None }
    }

    /// The batch waits to be sent again; with an error, its records are FAILED, and the attempt counts.
    pub(super) fn keep_waiting_after(error: Option<LastError>, lone_failures: u32) -> Self {
        Self::Keep { phase: BatchPhase::Waiting, lone_failures, error }
    }

    /// The outcome of the batch is not known yet.
    pub(super) fn keep_unclear(error: Option<LastError>, lone_failures: u32) -> Self {
        Self::Keep { phase: BatchPhase::Unclear, lone_failures, error }
    }
}

/// How a record continues.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The server has it, and perhaps gave a receipt.
    Synced(Option<Receipt>),
    /// It is quarantined.
    Quarantine(LastError),
    /// It is tried again after a back-off, or after the longer wait that the server asks for.
    Retry(LastError),
}
