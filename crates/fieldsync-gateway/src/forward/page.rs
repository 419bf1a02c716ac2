//! A page of records on its way to the receiver.

use std::collections::HashSet;

use crate::ledger::OutboxEntry;
use crate::ledger::{ForwardVerdict, LaneId, LanePage, PageSettlement, PageSource};

/// The records that are settled together.
#[derive(Debug)]
pub(super) struct ForwardPage {
    source: PageSource,
    records: Vec<PageRecord>,
}

#[derive(Debug)]
struct PageRecord {
    entry: OutboxEntry,
    attempts: u32,
    /// Its lane is blocked: it is not sent.
    is_behind: bool,
}

impl ForwardPage {
    /// The next page of the outbox. Unless `may_repeat_keys`, it ends before the second record of a key that would be sent.
    pub(super) fn from_outbox(entries: Vec<OutboxEntry>, blocked: &[LaneId], may_repeat_keys: bool) -> Self {
        let blocked: HashSet<&LaneId> = blocked.iter().collect();
        let mut sent = HashSet::new();
        let records = entries
            .into_iter()
            .map_while(|entry| {
                let lane = LaneId::of_record(&entry.record);
                let is_behind = blocked.contains(&lane);
                let is_taken = is_behind || sent.insert(lane) || may_repeat_keys;
                is_taken.then_some(PageRecord { entry, attempts: 0, is_behind })
            })
            .collect();
        Self { source: PageSource::Outbox, records }
    }

    /// A page of blocked lanes.
    pub(super) fn from_lanes(page: LanePage) -> Self {
        let records = page
            .records
            .into_iter()
            .map(|record| PageRecord { entry: record.entry, attempts: record.attempts, is_behind: false })
            .collect();
        Self { source: PageSource::Lanes, records }
    }

    pub(super) fn source(&self) -> PageSource {
        self.source
    }

    /// How many records it has, those that are not sent among them.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn to_send(&self) -> Vec<&OutboxEntry> {
        self.records.iter().filter(|record| !record.is_behind).map(|record| &record.entry).collect()
    }

    /// The settlement by a verdict on each record that was sent; it is given the record, and how often it was not
    /// taken before.
    pub(super) fn settle(
        self,
        now: u64,
        mut verdict_on: impl FnMut(&OutboxEntry, u32) -> ForwardVerdict,
    ) -> PageSettlement {
        let mut held = HashSet::new();
        let records = self
            .records
            .into_iter()
            .map(|PageRecord { entry, attempts, is_behind }| {
                let verdict = if is_behind { ForwardVerdict::Behind } else { verdict_on(&entry, attempts) };
                let is_first = !matches!(verdict, ForwardVerdict::Held { .. })
                    || held.insert(LaneId::of_record(&entry.record));
                (entry, if is_first { verdict } else { ForwardVerdict::Behind })
            })
            .collect();
        PageSettlement { source: self.source, records, now }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::ledger::{AppliedRecord, HoldReason};
    use crate::model::{BatchId, DeviceId, RecordId};

    fn entries(keys: &[Option<&str>]) -> Vec<OutboxEntry> {
        let device = DeviceId(Uuid::nil());
        let entry = |(seq, key): (u64, Option<&str>)| OutboxEntry {
            record: AppliedRecord {
                seq,
                id: RecordId::new(),
                device,
                batch: BatchId::new(),
                record_type: "Visits".into(),
                key: key.map(Into::into),
                applied_at: 0,
            },
            payload: "{}".into(),
        };
        (1..).zip(keys.iter().copied()).map(entry).collect()
    }

    fn seqs(page: &ForwardPage) -> Vec<u64> {
        page.to_send().iter().map(|entry| entry.record.seq).collect()
    }

    #[test]
    fn a_page_ends_before_a_key_repeats_and_blocked_records_are_not_sent() {
        let keys = [Some("a"), None, None, Some("b"), Some("b"), Some(""), Some("a"), Some("c")];
        let blocked = [LaneId::of_record(&entries(&keys)[3].record)];
        let page = ForwardPage::from_outbox(entries(&keys), &blocked, false);
        assert_eq!((page.len(), seqs(&page)), (6, vec![1, 2, 3, 6]));
        let page = ForwardPage::from_outbox(entries(&keys), &blocked, true);
        assert_eq!((page.len(), seqs(&page)), (8, vec![1, 2, 3, 6, 7, 8]));
    }

    #[test]
    fn records_behind_one_that_is_held_are_parked_unless_the_receiver_has_them() {
        let held = || ForwardVerdict::Held { due_at: None, reason: HoldReason::default() };
        let page =
            ForwardPage::from_outbox(entries(&[Some("a"), Some("b"), Some("a"), Some("a"), None]), &[], true);
        let settlement = page.settle(7, |entry, _| match entry.record.seq {
            1 | 3 | 5 => held(),
            _ => ForwardVerdict::Passed,
        });
        let verdicts: Vec<ForwardVerdict> =
            settlement.records.into_iter().map(|(_, verdict)| verdict).collect();
        let passed = ForwardVerdict::Passed;
        assert_eq!(verdicts, [held(), passed.clone(), ForwardVerdict::Behind, passed, held()]);
    }
}
