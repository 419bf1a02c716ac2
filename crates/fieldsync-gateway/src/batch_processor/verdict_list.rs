//! What is known of the records of a delivery, and the response that follows from it.

use crate::destination::{DESTINATION_UNCLEAR, RecordVerdict, Verdict};
use crate::ledger::{Admission, DeliveryOutcome, StoredVerdict};
use crate::metrics::VerdictCounts;
use crate::protocol::wire::{BatchResponse, RecordResult, RecordStatus};
use crate::validated_batch::{ValidatedBatch, ValidatedRecord};

/// What is known of the records of a run, by their place in it.
pub(super) struct VerdictList {
    pub(super) verdicts: Vec<Option<Verdict>>,
    /// Certain ones that are not in the ledger yet.
    pub(super) unstored: Vec<StoredVerdict>,
}

impl VerdictList {
    pub(super) fn new(records: usize) -> Self {
        Self { verdicts: (0..records).map(|_| None).collect(), unstored: Vec::new() }
    }

    /// Takes verdicts on records, which are at these positions of the batch.
    pub(super) fn take(&mut self, message: Vec<RecordVerdict>, positions: &[usize]) {
        for RecordVerdict { position: place, verdict } in message {
            if let (Some(entry), Some(position)) = (self.verdicts.get_mut(place), positions.get(place)) {
                let outcome = match &verdict {
                    Verdict::Applied(receipt) => Some(DeliveryOutcome::Applied(receipt.clone())),
                    Verdict::Rejected { .. } => Some(DeliveryOutcome::Rejected),
                    Verdict::Retry { .. } => None,
                };
                self.unstored.extend(outcome.map(|outcome| StoredVerdict { position: *position, outcome }));
                *entry = Some(verdict);
            }
        }
    }

    pub(super) fn count(&self) -> VerdictCounts {
        let mut counts = VerdictCounts::default();
        for verdict in self.verdicts.iter().flatten() {
            match verdict {
                Verdict::Applied(_) => counts.applied += 1,
                Verdict::Rejected { .. } => counts.rejected += 1,
                Verdict::Retry { .. } => counts.retry += 1,
            }
        }
        counts
    }

    /// What is stored with the response. A record that is to be sent again may be at the destination, whatever the
    /// reason is: an earlier delivery or an earlier call may have sent it.
    pub(super) fn into_final(self, positions: &[usize]) -> Vec<StoredVerdict> {
        let is_uncertain = |verdict: &Option<Verdict>| matches!(verdict, None | Some(Verdict::Retry { .. }));
        let uncertain = positions.iter().zip(&self.verdicts).filter(|(_, verdict)| is_uncertain(verdict));
        let mut stored = self.unstored;
        stored.extend(
            uncertain.map(|(position, _)| StoredVerdict {
                position: *position,
                outcome: DeliveryOutcome::Uncertain,
            }),
        );
        stored
    }
}

/// The response once each record has a result.
pub(super) fn build_response(
    batch: &ValidatedBatch,
    admissions: &[Admission],
    positions: &[usize],
    verdicts: &[Option<Verdict>],
) -> BatchResponse {
    let mut results: Vec<RecordResult> = Vec::with_capacity(batch.records.len());
    let mut decided = positions.iter().zip(verdicts).peekable();
    for (position, (record, admission)) in batch.records.iter().zip(admissions).enumerate() {
        results.push(match admission {
            Admission::Answered(result) => result.clone(),
            Admission::Deliver => {
                let own = decided.next_if(|(delivered, _)| **delivered == position);
                verdict_result(record, own.and_then(|(_, verdict)| verdict.as_ref()))
            }
        });
    }
    BatchResponse { batch_id: batch.id, replayed: false, results }
}

fn verdict_result(record: &ValidatedRecord, verdict: Option<&Verdict>) -> RecordResult {
    match verdict {
        Some(Verdict::Applied(receipt)) => {
            RecordResult { receipt: Some(receipt.clone()), ..record.confirm(RecordStatus::Applied) }
        }
        Some(Verdict::Rejected { code, message, field }) => {
            RecordResult { field: field.clone(), ..record.reject(code, message) }
        }
        Some(Verdict::Retry { after, code, message }) => RecordResult {
            code: Some(code.clone()),
            message: Some(message.clone()),
            retry_after_s: after.map(|after| after.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)),
            ..RecordResult::new(record.id, RecordStatus::Retry)
        },
        None => RecordResult {
            code: Some(DESTINATION_UNCLEAR.into()),
            message: Some("the destination gave no verdict".into()),
            ..RecordResult::new(record.id, RecordStatus::Retry)
        },
    }
}
