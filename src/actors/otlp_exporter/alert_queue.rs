//! Records of alerts that wait for the next push: a bounded number, of which the newest stay.

use std::collections::VecDeque;

use crate::telemetry::metrics::otlp::AlertLogRecord;

/// Records that wait at most. Alerts are rare: these are days without contact.
const RECORDS_MAX: usize = 256;

/// Records that wait, the oldest first.
#[derive(Default)]
pub(super) struct AlertQueue {
    waiting: VecDeque<AlertLogRecord>,
    dropped: u64,
}

impl AlertQueue {
    /// Adds the newest. If there are too many, the oldest is dropped.
    pub(super) fn push(&mut self, record: AlertLogRecord) {
        self.waiting.push_back(record);
        self.drop_excess();
    }

    /// Adds the start of an alert, unless it already waits.
    pub(super) fn push_if_unknown(&mut self, start: AlertLogRecord) {
        let last = self.waiting.iter().rev().find(|record| record.alert == start.alert);
        if last.is_none_or(|last| !last.is_active) {
            self.push(start);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// All that wait, for a push.
    pub(super) fn take(&mut self) -> Vec<AlertLogRecord> {
        self.waiting.drain(..).collect()
    }

    /// Puts back what a push could not deliver. It is older than all that came meanwhile.
    pub(super) fn put_back(&mut self, records: Vec<AlertLogRecord>) {
        for record in records.into_iter().rev() {
            self.waiting.push_front(record);
        }
        self.drop_excess();
    }

    /// Counts records that the collector refused.
    pub(super) fn count_refused(&mut self, records: usize) {
        self.dropped += records as u64;
    }

    /// How many records were dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    fn drop_excess(&mut self) {
        let excess = self.waiting.len().saturating_sub(RECORDS_MAX);
        self.waiting.drain(..excess);
        self.dropped += excess as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(at: u64) -> AlertLogRecord {
        AlertLogRecord {
            alert: "disk_full".into(),
            message: String::new(),
            remedy: String::new(),
            is_critical: true,
            is_active: true,
            at,
        }
    }

    #[test]
    fn the_newest_records_stay_in_their_order() {
        let mut queue = AlertQueue::default();
        (0..3).for_each(|at| queue.push(record(at)));
        let taken = queue.take();
        (3..=RECORDS_MAX as u64).for_each(|at| queue.push(record(at)));
        queue.put_back(taken);
        assert_eq!(queue.dropped(), 1);
        let times: Vec<u64> = queue.take().iter().map(|record| record.at).collect();
        assert_eq!(times, (1..=RECORDS_MAX as u64).collect::<Vec<_>>());
    }

    #[test]
    fn a_start_that_already_waits_is_not_added_again() {
        let mut queue = AlertQueue::default();
        queue.push_if_unknown(record(1));
        queue.push_if_unknown(record(2));
        queue.push(AlertLogRecord { is_active: false, ..record(3) });
        queue.push_if_unknown(record(4));
        let times: Vec<u64> = queue.take().iter().map(|record| record.at).collect();
        assert_eq!(times, [1, 3, 4]);
    }
}
