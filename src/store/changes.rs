//! Which records changed, in the order of their changes, also over restarts.
//!
//! A list of bounded length: a record is in it once for each change, and the oldest entries are removed. New records
//! are not in it, because their submitters know them, and a lone append would cost a page more.

use std::fmt;
use std::str::FromStr;

use redb::{ReadableTable, ReadableTableMetadata, Table};

use super::counters::{Counters, LastChange};
use super::error::StoreError;
use super::schema::Snapshot;

/// The most entries of the list.
pub(super) const CHANGES_MAX: u64 = if cfg!(test) { 200 } else { 50_000 };

/// How far a reader of changes has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeCursor {
    history: u64,
    seq: u64,
}

impl fmt::Display for ChangeCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{}", self.history, self.seq)
    }
}

impl FromStr for ChangeCursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (history, seq) = text.split_once('.').ok_or(())?;
        let history = u64::from_str_radix(history, 16).map_err(|_| ())?;
        Ok(Self { history, seq: seq.parse().map_err(|_| ())? })
    }
}

/// Some of the changes after a cursor.
#[derive(Debug)]
pub(super) struct ChangesRead {
    /// The records that changed, each in the place of its last change among these.
    pub(super) ids: Vec<u128>,
    /// After the last of them.
    pub(super) next: ChangeCursor,
}

/// Appends a change.
pub(super) fn append_change(
    table: &mut Table<'_, (u64, u64), u128>,
    counters: &mut Counters,
    id: u128,
) -> Result<(), StoreError> {
    let last = counters.last_change.get_or_insert_with(LastChange::new_history);
    last.seq += 1;
    table.insert((last.history, last.seq), id)?;
    Ok(())
}

/// Removes changes beyond the bound: those of other histories, then the oldest ones. At most two for each that was
/// appended, so that the list becomes shorter step by step if the bound was lowered.
pub(super) fn remove_old_changes(
    table: &mut Table<'_, (u64, u64), u128>,
    counters: &Counters,
    appended: usize,
) -> Result<(), StoreError> {
    let Some(LastChange { history, .. }) = counters.last_change else { return Ok(()) };
    let beyond = usize::try_from(table.len()?.saturating_sub(CHANGES_MAX)).unwrap_or(usize::MAX);
    let mut excess = beyond.min(2 * appended);
    let (own, next_history) = ((history, 0), (history.saturating_add(1), 0));
    let ranges = [(0, 0)..own, next_history..(u64::MAX, u64::MAX), own..next_history];
    for range in ranges {
        let mut removed = 0;
        let mut last = None;
        for item in table.range(range.clone())?.take(excess) {
            (removed, last) = (removed + 1, Some(item?.0.value()));
        }
        let Some(last) = last else { continue };
        table.retain_in(range.start..=last, |_, _| false)?;
        excess -= removed;
    }
    Ok(())
}

/// Up to `max` changes after a cursor, or none with the present cursor if there is no cursor. `None` if changes after
/// the cursor are no longer known.
pub(super) fn read_changes(
    snapshot: &Snapshot,
    after: Option<ChangeCursor>,
    max: usize,
) -> Result<Option<ChangesRead>, StoreError> {
    let last = Counters::read_totals(&snapshot.meta)?.last_change;
    let last = last.map_or(ChangeCursor { history: 0, seq: 0 }, |last| ChangeCursor {
        history: last.history,
        seq: last.seq,
    });
    let Some(after) = after else { return Ok(Some(ChangesRead { ids: Vec::new(), next: last })) };
    if after.history != last.history || after.seq > last.seq {
        return Ok(None);
    }
    let mut read = ChangesRead { ids: Vec::new(), next: after };
    let Some(table) = snapshot.changes.as_ref().filter(|_| after.seq < last.seq) else {
        return Ok(Some(read));
    };
    for item in table.range((after.history, after.seq + 1)..=(after.history, last.seq))?.take(max) {
        let (key, id) = item?;
        let (seq, id) = (key.value().1, id.value());
        // The changes in between were removed.
        if seq != read.next.seq + 1 {
            return Ok(None);
        }
        read.next.seq = seq;
        read.ids.push(id);
    }
    if read.ids.is_empty() {
        return Ok(None);
    }
    keep_last_of_each(&mut read.ids);
    Ok(Some(read))
}

/// Removes all but the last occurrence of each id.
fn keep_last_of_each(ids: &mut Vec<u128>) {
    let mut seen = std::collections::HashSet::with_capacity(ids.len());
    ids.reverse();
    ids.retain(|id| seen.insert(*id));
    ids.reverse();
}
