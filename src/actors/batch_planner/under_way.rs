//! What is under way: one operation of the store at most, and beside it requests to the server.
//!
//! Whatever a request shows is settled on disk in the order in which it came, and before anything new is claimed.

use std::collections::{BTreeSet, VecDeque};

use super::completion::PendingSettlement;
use crate::api::BatchInFlight;
use crate::model::{BatchId, InFlightRule};

/// A batch whose response is awaited.
pub(super) struct AwaitedBatch {
    /// For people.
    pub(super) announced: BatchInFlight,
    /// How many batches were under way once it was sent, and why not more.
    pub(super) in_flight: usize,
    pub(super) rule: InFlightRule,
}

/// What is under way, and what waits for the store.
#[derive(Default)]
pub(super) struct UnderWay {
    /// The store carries out an operation, or has failed.
    pub(super) is_storing: bool,
    /// One for each batch at most.
    settlements: VecDeque<PendingSettlement>,
    /// In the order in which they were sent.
    sent: Vec<AwaitedBatch>,
    /// The canary.
    pub(super) canary: Option<BatchId>,
    /// Whether an outcome is queried.
    pub(super) is_querying: bool,
}

impl UnderWay {
    /// Settles a batch once the store has done everything before.
    pub(super) fn queue_settlement(&mut self, settlement: PendingSettlement) {
        self.settlements.push_back(settlement);
    }

    /// The settlement that waits the longest.
    pub(super) fn next_settlement(&mut self) -> Option<PendingSettlement> {
        self.settlements.pop_front()
    }

    /// Whether the fate of a batch is decided, and only has to be stored.
    pub(super) fn awaits_settlement(&self, id: BatchId) -> bool {
        self.settlements.iter().any(|settlement| settlement.id == id)
    }

    /// A batch is sent.
    pub(super) fn batch_sent(&mut self, batch: AwaitedBatch) {
        self.sent.push(batch);
    }

    /// The response to a batch came, or does not come any more.
    pub(super) fn batch_ended(&mut self, id: BatchId) -> Option<AwaitedBatch> {
        let index = self.sent.iter().position(|sent| sent.announced.id == id)?;
        Some(self.sent.remove(index))
    }

    /// The batches whose responses are awaited, in the order in which they were sent.
    pub(super) fn batches(&self) -> Vec<BatchInFlight> {
        self.sent.iter().map(|sent| sent.announced).collect()
    }

    /// The batches whose responses are awaited, and the canary.
    pub(super) fn uploads(&self) -> BTreeSet<BatchId> {
        self.sent.iter().map(|sent| sent.announced.id).chain(self.canary).collect()
    }

    /// Whether nothing but a query or a canary is under way, which is to show how the server is.
    pub(super) fn is_only_asking(&self) -> bool {
        self.sent.is_empty() && self.is_asking()
    }

    fn is_asking(&self) -> bool {
        self.is_querying || self.canary.is_some()
    }

    /// Whether nothing is under way, and nothing waits for the store.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_storing && self.settlements.is_empty() && self.sent.is_empty() && !self.is_asking()
    }
}
