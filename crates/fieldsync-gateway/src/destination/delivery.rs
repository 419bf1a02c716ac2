//! What a destination does, and the verdicts that it gives.

use std::time::Duration;

use futures_util::future::BoxFuture;
#[cfg(test)]
use futures_util::future::join;
use tokio::sync::mpsc;

use crate::protocol::receipt::Receipt;
use crate::validated_batch::ValidatedRecord;

/// Code of a record that cannot be handed over before an operator acts.
pub(crate) const DESTINATION_STOPPED: &str = "DESTINATION_STOPPED";
/// Code of a record that waits for calls to be allowed again.
pub(crate) const DESTINATION_BUSY: &str = "DESTINATION_BUSY";
/// Code of a record of which the destination may have stored a part, or nothing.
pub(crate) const DESTINATION_UNCLEAR: &str = "DESTINATION_UNCLEAR";

/// While a destination takes few records, it takes those of this priority or a higher one.
const URGENT_PRIORITY_MIN: u8 = 7;

/// Verdicts that wait for the receiver; a call that ends waits while there are so many.
#[cfg(test)]
const VERDICT_MESSAGES_MAX: usize = 16;

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The destination has it, as the receipt says.
    Applied(Receipt),
    /// The record itself is at fault, in the destination's words.
    Rejected {
        code: String,
        message: String,
        /// The part of the device's payload, as a JSON Pointer.
        field: Option<String>,
    },
    /// Nothing is known against the record: it is to be sent again, `after` this time at the earliest.
    Retry { after: Option<Duration>, code: String, message: String },
}

impl Verdict {
    pub(crate) fn retry(after: Option<Duration>, code: &str, message: impl Into<String>) -> Self {
        Self::Retry { after, code: code.into(), message: message.into() }
    }

    pub(crate) fn is_applied(&self) -> bool {
        matches!(self, Self::Applied(_))
    }
}

/// The verdict on the record at this position of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordVerdict {
    pub(crate) position: usize,
    pub(crate) verdict: Verdict,
}

/// Takes the verdicts of each call as it ends.
pub(crate) type VerdictSender = mpsc::Sender<Vec<RecordVerdict>>;

/// Whether a destination takes records at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DestinationCondition {
    Ready,
    /// No calls are made for so long. Then they are made again without an operator.
    Waiting {
        wait: Duration,
        reason: String,
    },
    /// Only urgent records are taken for so long.
    Scarce {
        wait: Duration,
        reason: String,
    },
    /// An operator has to act. A call is made after `wait` to find out whether that happened.
    Stopped {
        wait: Duration,
        reason: String,
    },
}

/// A record type that the destination does not take until an operator acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoppedType {
    pub(crate) record_type: String,
    pub(crate) reason: String,
}

/// A system that records are handed over to.
pub(crate) trait Destination: Send + Sync {
    /// Hands the records over, in order within a key. Each record gets exactly one verdict before the future
    /// ends, which takes hardly longer than `time_budget`. A record that was handed over before is not
    /// stored twice. `verdicts` must be received meanwhile. Dropping the future leaves the outcome of calls in
    /// flight unknown.
    fn deliver<'a>(
        &'a self,
        records: &'a [&'a ValidatedRecord],
        time_budget: Duration,
        verdicts: VerdictSender,
    ) -> BoxFuture<'a, ()>;

    /// Whether the destination takes records.
    fn condition(&self) -> DestinationCondition;

    /// The record types that it does not take, while it takes others.
    fn stopped_types(&self) -> Vec<StoppedType>;
}

/// Whether a destination that takes few records takes this one.
pub(crate) fn is_urgent(record: &ValidatedRecord) -> bool {
    record.priority >= URGENT_PRIORITY_MIN
}

/// Hands the records over, and returns the verdicts in their order.
#[cfg(test)]
pub(crate) async fn collect_verdicts(
    destination: &dyn Destination,
    records: &[&ValidatedRecord],
    time_budget: Duration,
) -> Vec<Verdict> {
    let (sender, mut receiver) = mpsc::channel(VERDICT_MESSAGES_MAX);
    let mut verdicts: Vec<Option<Verdict>> = records.iter().map(|_| None).collect();
    let collecting = async {
        while let Some(message) = receiver.recv().await {
            for RecordVerdict { position, verdict } in message {
                if let Some(place) = verdicts.get_mut(position) {
                    *place = Some(verdict);
                }
            }
        }
    };
    join(destination.deliver(records, time_budget, sender), collecting).await;
    let missing = || Verdict::retry(None, DESTINATION_UNCLEAR, "the destination gave no verdict");
    verdicts.into_iter().map(|verdict| verdict.unwrap_or_else(missing)).collect()
}
