//! What is known of the records of a delivery while its calls run.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::destination::delivery::{RecordVerdict, VerdictSender};

/// What is known of the records of a delivery, and when it has to end.
pub(super) struct DeliveryState {
    is_applied: Mutex<Vec<bool>>,
    pub(super) ends: Duration,
    verdicts: VerdictSender,
}

impl DeliveryState {
    pub(super) fn new(records: usize, ends: Duration, verdicts: VerdictSender) -> Self {
        Self { is_applied: Mutex::new(vec![false; records]), ends, verdicts }
    }

    pub(super) fn is_applied(&self, position: usize) -> bool {
        let is_applied = self.is_applied.lock().unwrap_or_else(PoisonError::into_inner);
        is_applied.get(position).copied().unwrap_or_default()
    }

    pub(super) async fn settle(&self, verdicts: Vec<RecordVerdict>) {
        if verdicts.is_empty() {
            return;
        }
        {
            let mut is_applied = self.is_applied.lock().unwrap_or_else(PoisonError::into_inner);
            for RecordVerdict { position, verdict } in &verdicts {
                if let Some(place) = is_applied.get_mut(*position) {
                    *place = verdict.is_applied();
                }
            }
        }
        // Without a receiver, the records are handed over nevertheless.
        self.verdicts.send(verdicts).await.ok();
    }
}
