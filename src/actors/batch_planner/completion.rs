//! The results of the planner's actions. One match in [`super::actions`] continues from them.

use std::sync::Arc;

use crate::api::BatchReport;
use crate::model::{Batch, BatchId, Network};
use crate::policy::outcome_reply::QueriedOutcome;
use crate::policy::scheduler::Disposition;
use crate::policy::verdict::{UploadResult, Verdict};
use crate::store::SettleSummary;

/// The result of an action.
pub(super) enum Completion {
    /// New records were claimed, if there were any.
    Claimed(Option<Batch>),
    /// An open batch was marked as in flight, if it still has records.
    Dispatched(BatchId, Option<Batch>),
    /// A batch was sent; or nothing was, because the breaker had opened meanwhile.
    Uploaded(Arc<Batch>, Option<UploadResult>),
    /// The outcome of a batch was queried.
    OutcomeReplied(BatchId, QueriedOutcome),
    /// A canary was sent; or nothing was.
    CanaryReplied(BatchId, Option<Verdict>),
    /// A batch was settled on disk. If that settled a send, it is reported.
    Settled(BatchId, Option<Box<SendReport>>, SettleSummary),
    /// A pause for a time is over.
    PauseEnded,
    /// What was learned is saved for the last time.
    FinalStateSaved,
}

/// The settlement of a batch, until it is stored.
pub(super) struct PendingSettlement {
    pub(super) id: BatchId,
    pub(super) disposition: Disposition,
    /// Of the send that it settles, if there was one.
    pub(super) report: Option<Box<SendReport>>,
}

/// What is reported of a send.
pub(super) struct SendReport {
    /// For people; the number of synced records follows with the settlement.
    pub(super) report: BatchReport,
    /// Its records by type.
    pub(super) types: Vec<(String, u64)>,
    pub(super) network: Network,
}
