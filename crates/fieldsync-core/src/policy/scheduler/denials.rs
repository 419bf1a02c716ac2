//! How often a batch was denied: a credential that is refused, a wrong address, a portal, throttling.
//!
//! A denial is about every batch, until another gets through. Then it is about the batch that drew it: a firewall, a
//! proxy or a worker that dies may deny a batch because of one record. So a batch that was denied lets others go
//! first, and the third time it must. When others got through in between and it is denied again, that counts against
//! it as a refusal does. While every batch is denied, nothing counts, and what is sent to find out is small.

use crate::model::LastError;

/// Denials in a row before one may count against the batch: another batch goes before the third.
pub(super) const FREE_DENIALS: u32 = 2;
/// A batch that was denied so often is not sent whole again until others get through: each batch may have its
/// faulty record.
const WHOLE_BATCH_DENIALS_MAX: u32 = 8;

/// The results of all other requests since a batch was last denied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum OtherTraffic {
    /// No other was sent.
    #[default]
    Silent,
    /// One was sent.
    Sent,
    /// An outcome query got a response of the protocol.
    Answered,
    /// Records were stored.
    Stored,
}

/// How often a batch was denied.
#[derive(Clone, Debug, Default)]
pub(super) struct Denials {
    /// Consecutive denials, including those of the batch that it was cut from.
    count: u32,
    others: OtherTraffic,
    /// The last one of this batch itself.
    error: Option<LastError>,
}

/// One more denial.
#[derive(Clone, Copy, Debug)]
pub(super) struct Denial {
    /// How many in a row.
    pub(super) count: u32,
    /// The results of all others since the previous denial.
    pub(super) others: OtherTraffic,
}

impl Denial {
    /// Whether the batch was denied so often that others had to go before.
    pub(super) fn is_beyond_free(self) -> bool {
        self.count > FREE_DENIALS
    }
}

impl Denials {
    /// For a part of a batch that was denied `count` times: it is another batch, so it need not wait for others.
    pub(super) fn of_part(count: u32) -> Self {
        let others = if count > 0 { OtherTraffic::Sent } else { OtherTraffic::Silent };
        Self { count, others, error: None }
    }

    /// The batch was denied once more.
    pub(super) fn add(&mut self, error: &LastError) -> Denial {
        self.count = self.count.saturating_add(1);
        self.error = Some(error.clone());
        Denial { count: self.count, others: std::mem::take(&mut self.others) }
    }

    /// The batch was not denied, or denials are void.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Records the result of another request.
    pub(super) fn note_traffic(&mut self, traffic: OtherTraffic) {
        self.others = self.others.max(traffic);
    }

    /// Consecutive denials, including those of the batch that it was cut from.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// The last one of this batch itself.
    pub(super) fn error(&self) -> Option<&LastError> {
        self.error.as_ref()
    }

    #[cfg(test)]
    pub(super) fn other_traffic(&self) -> OtherTraffic {
        self.others
    }

    /// Whether the batch was denied, or the batches that it was cut from.
    pub(super) fn is_denied(&self) -> bool {
        self.count > 0
    }

    /// Whether the batch itself was denied, and no record was stored since.
    pub(super) fn is_unexplained(&self) -> bool {
        self.error.is_some() && self.others < OtherTraffic::Stored
    }

    /// Whether others go first, if there are any.
    pub(super) fn should_yield(&self) -> bool {
        self.is_denied() && self.others == OtherTraffic::Silent
    }

    /// Whether only stored records of others can show what the denial is about.
    pub(super) fn wants_canary(&self) -> bool {
        self.is_denied() && self.others < OtherTraffic::Stored
    }

    /// Whether one record goes instead of the whole batch: it was denied often enough, and nothing else was sent, or
    /// nothing got through in a long time.
    pub(super) fn needs_carving(&self) -> bool {
        let is_alone = self.count >= FREE_DENIALS && self.others == OtherTraffic::Silent;
        let is_long = self.count >= WHOLE_BATCH_DENIALS_MAX && self.others < OtherTraffic::Stored;
        is_alone || is_long
    }

    /// Whether the batch is denied while others are known to get through.
    pub(super) fn is_denied_alone(&self) -> bool {
        self.count >= FREE_DENIALS && self.others == OtherTraffic::Stored
    }
}
