//! How many records of the kit the server takes in a batch: by its hints, and by what it refused with 413.

use hyper::HeaderMap;

use crate::protocol::wire::{MAX_BYTES, MAX_RECORDS};

/// What is known so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SizeLimits {
    /// The newest `X-Sync-Max-Records`.
    records: Option<usize>,
    /// The newest `X-Sync-Max-Bytes`: of payloads, as devices count them.
    payload_bytes: Option<usize>,
    /// Half of the smallest batch that got 413.
    below_refused: Option<usize>,
}

impl SizeLimits {
    /// Takes the hints of a response. The kit keeps to a hint after a response without it, too.
    pub(super) fn note_hints(&mut self, headers: &HeaderMap) {
        let hint = |name: &str| {
            let number = headers.get(name)?.to_str().ok()?.trim().parse().ok()?;
            (number > 0).then_some(number)
        };
        self.records = hint(MAX_RECORDS).or(self.records);
        self.payload_bytes = hint(MAX_BYTES).or(self.payload_bytes);
    }

    /// A batch with so many records got 413.
    pub(super) fn note_refusal(&mut self, records: usize) {
        let half = (records / 2).max(1);
        self.below_refused = Some(self.below_refused.map_or(half, |known| known.min(half)));
    }

    /// Most records in a batch, at least one: a record whose payload alone is larger than the hint goes alone.
    pub(super) fn records_max(&self, payload_bytes: usize) -> Option<usize> {
        let by_bytes = self.payload_bytes.map(|bytes| (bytes / payload_bytes.max(1)).max(1));
        [self.records, by_bytes, self.below_refused].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_counts_and_is_at_least_one_record() {
        let hints = |pairs: &[(&str, &str)]| -> HeaderMap {
            pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
        };
        let mut limits = SizeLimits::default();
        assert_eq!(limits.records_max(40), None);
        limits.note_hints(&hints(&[("x-sync-max-records", "100"), ("x-sync-max-bytes", "4096")]));
        assert_eq!(limits.records_max(40), Some(100));
        assert_eq!(limits.records_max(100), Some(40));
        limits.note_hints(&hints(&[("x-sync-max-records", "0"), ("x-sync-max-bytes", "many")]));
        assert_eq!(limits.records_max(5000), Some(1));
        limits.note_refusal(40);
        limits.note_refusal(500);
        assert_eq!(limits.records_max(40), Some(20));
        limits.note_refusal(1);
        assert_eq!(limits.records_max(40), Some(1));
    }
}
