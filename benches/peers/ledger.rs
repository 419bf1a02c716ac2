//! What the server has received: the applications of each record, and the outcome of each batch of the protocol.

use std::collections::HashMap;
use std::time::Duration;

/// Counts records as the server applies them.
pub(crate) struct Ledger {
    /// Records of batches that were applied or will be.
    is_received: Vec<bool>,
    is_applied: Vec<bool>,
    /// The record that counts as no delivery, because a good client need not deliver it.
    faulty_record: Option<usize>,
    /// Records that were applied, without the faulty one.
    pub(crate) delivered: usize,
    /// Records that arrived in another request although they were received already.
    pub(crate) arrived_again: usize,
    /// Records that were applied although they were applied already. A server of the protocol recognizes them by id.
    pub(crate) applied_twice: usize,
    pub(crate) requests: usize,
    /// Responses of the gateway without the server's.
    pub(crate) timeouts: usize,
    /// When the last new record was applied.
    pub(crate) last_progress: Duration,
    /// A batch waits for the server to be released.
    pub(crate) holds: bool,
    batches: HashMap<String, BatchState>,
}

/// A batch of the protocol. A batch without a state never reached the server, or failed without a trace.
#[derive(Clone)]
pub(crate) enum BatchState {
    Processing,
    Applied(Vec<AppliedRecord>),
}

#[derive(Clone, Copy)]
pub(crate) struct AppliedRecord {
    pub(crate) number: usize,
    pub(crate) is_new: bool,
}

impl Ledger {
    pub(crate) fn new(records: usize, faulty_record: Option<usize>) -> Self {
        Self {
            is_received: vec![false; records],
            is_applied: vec![false; records],
            faulty_record,
            delivered: 0,
            arrived_again: 0,
            applied_twice: 0,
            requests: 0,
            timeouts: 0,
            last_progress: Duration::ZERO,
            holds: false,
            batches: HashMap::new(),
        }
    }

    /// Counts the records of a request that the server applies, now or later.
    pub(crate) fn receive(&mut self, numbers: &[usize]) {
        for number in numbers {
            let is_received = self.is_received.get_mut(*number).expect("only records of this run are sent");
            self.arrived_again += usize::from(std::mem::replace(is_received, true));
        }
    }

    /// Applies records at a time. A server of the protocol skips those that it knows.
    pub(crate) fn apply(&mut self, numbers: &[usize], now: Duration, knows_ids: bool) -> Vec<AppliedRecord> {
        numbers.iter().map(|number| self.apply_record(*number, now, knows_ids)).collect()
    }

    fn apply_record(&mut self, number: usize, now: Duration, knows_ids: bool) -> AppliedRecord {
        let is_applied = self.is_applied.get_mut(number).expect("only records of this run are sent");
        let is_new = !*is_applied;
        if is_new {
            *is_applied = true;
            if self.faulty_record != Some(number) {
                self.delivered += 1;
                self.last_progress = now;
            }
        } else if !knows_ids {
            self.applied_twice += 1;
        }
        AppliedRecord { number, is_new }
    }

    pub(crate) fn batch(&self, id: &str) -> Option<&BatchState> {
        self.batches.get(id)
    }

    pub(crate) fn set_batch(&mut self, id: &str, state: BatchState) {
        self.batches.insert(id.to_owned(), state);
    }

    pub(crate) fn forget_batch(&mut self, id: &str) {
        self.batches.remove(id);
    }
}
