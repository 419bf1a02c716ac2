//! Who holds back whom: records of one key go out in order.

use std::collections::BTreeSet;
use std::ops::Bound;

use redb::ReadableTable;

use super::StoreError;
use super::queue::Transaction;

/// Due time of a FAILED record that an earlier one of its key holds: whoever holds it frees it.
pub(super) const HELD: u64 = u64::MAX;

/// The keys of records in open batches, in memory; those of records that were in one are in `holds`.
#[derive(Default)]
pub(super) struct Keys(BTreeSet<(Box<str>, u64)>);

impl Keys {
    /// The record at `place` is in an open batch.
    pub(super) fn claim(&mut self, key: Option<&str>, place: u64) {
        if let Some(key) = key {
            self.0.insert((key.into(), place));
        }
    }

    /// The record at `place` is in no open batch any more.
    pub(super) fn release(&mut self, key: Option<&str>, place: u64) {
        if let Some(key) = key {
            self.0.remove(&(key.into(), place));
        }
    }

    fn earlier(&self, key: &str, place: u64) -> impl Iterator<Item = u64> {
        let range = (Bound::Included((key.into(), 0)), Bound::Excluded((key.into(), place)));
        self.0.range::<(Box<str>, u64), _>(range).map(|(_, place)| *place)
    }
}

impl Transaction<'_, '_> {
    /// Whether an earlier record of the same key, other than those of `company`, is unfinished.
    pub(super) fn is_held(
        &self,
        key: Option<&str>,
        place: u64,
        company: &BTreeSet<u64>,
    ) -> Result<bool, StoreError> {
        let Some(key) = key else { return Ok(false) };
        if self.state.keys.earlier(key, place).any(|earlier| !company.contains(&earlier)) {
            return Ok(true);
        }
        for item in self.tables.holds.range((key, 0)..(key, place))? {
            let (entry, _) = item?;
            if !company.contains(&entry.value().1) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The record holds back later ones of its key from now on.
    pub(super) fn hold(&mut self, key: Option<&str>, place: u64) -> Result<(), StoreError> {
        if let Some(key) = key {
            self.tables.holds.insert((key, place), ())?;
        }
        Ok(())
    }

    /// The record holds back nobody any more.
    pub(super) fn unhold(&mut self, key: Option<&str>, place: u64) -> Result<(), StoreError> {
        if let Some(key) = key {
            self.tables.holds.remove((key, place))?;
        }
        self.freed(key, place)
    }

    /// Later records of the key may be free to go: fresh ones that were passed over, and the next failed one.
    pub(super) fn freed(&mut self, key: Option<&str>, place: u64) -> Result<(), StoreError> {
        let Some(key) = key else { return Ok(()) };
        if self.state.cursors.passed_held {
            self.state.cursors.rewind();
        }
        let next = self.tables.holds.range((key, place + 1)..=(key, u64::MAX))?.next().transpose()?;
        let Some(next) = next.map(|(entry, _)| entry.value().1) else {
            return Ok(());
        };
        if self.tables.retry.get((HELD, next))?.is_some()
            && let Some((header, _)) = self.header(next)?
        {
            self.reschedule(header.id, next, HELD, self.now)?;
        }
        Ok(())
    }

    /// A FAILED record outside of batches is due at another time.
    pub(super) fn reschedule(&mut self, id: u128, place: u64, was: u64, due: u64) -> Result<(), StoreError> {
        self.tables.retry.remove((was, place))?;
        self.tables.retry.insert((due, place), ())?;
        if let Some(mut row) = self.manifest_row(id)? {
            row.due_at = (due != HELD).then_some(due);
            let state = row.state;
            self.put_row(id, &row, Some(state))?;
        }
        Ok(())
    }
}
