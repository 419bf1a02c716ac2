//! Reads the notes of other components one by one, and skips those that cannot be read.

use std::collections::BTreeMap;
use std::ops::Bound;

use redb::{AccessGuard, Range};

use super::damaged_tables::DamagedTables;
use crate::store::schema::{NOTES_MAX, meta};

/// The largest size of a note.
const NOTE_BYTES_MAX: usize = 1 << 20;
/// Failed reads before the rest of the notes is given up: what is left of the budget is for records.
const FAILURES_MAX: usize = 200;
/// Entries of the table that are no notes.
const OTHER_ENTRIES: [&str; 10] = [
    meta::SCHEMA_KEY,
    meta::DEVICE_KEY,
    meta::COUNTERS_KEY,
    meta::SUBMITTERS_KEY,
    meta::SERVER_RECEIPT_BYTES_KEY,
    meta::DISCARDED_COUNT_KEY,
    meta::CHANGES_KEY,
    meta::SHARED_KEYS,
    meta::PAUSED_KEY,
    meta::DAMAGE_KEY,
];

/// A name and its value; no value if it is too large.
type Entry = (String, Option<Vec<u8>>);
type MetaRange = Range<'static, &'static str, &'static [u8]>;
type MetaItem =
    Result<(AccessGuard<'static, &'static str>, AccessGuard<'static, &'static [u8]>), redb::StorageError>;

/// All notes that can be read. A search from a name may skip more than a gap, so that a walk from the end follows.
pub(super) fn read_notes(source: &mut DamagedTables) -> Vec<(String, Vec<u8>)> {
    let (mut entries, mut last, mut failures) = (BTreeMap::new(), String::new(), 0);
    for _ in 0..NOTES_MAX {
        let next = read_entry(source, (Bound::Excluded(last.as_str()), Bound::Unbounded), Range::next)
            .unwrap_or_else(|()| read_entry_after_gap(source, &last, &mut failures));
        // In a damaged table, names may be unordered or repeated.
        let Some((name, value)) = next.filter(|(name, _)| *name > last) else { break };
        entries.insert(name.clone(), value);
        last = name;
    }
    let mut end = Bound::Unbounded;
    while failures > 0 && entries.len() < NOTES_MAX {
        let range = (Bound::Unbounded, end.as_ref().map(String::as_str));
        let Ok(Some((name, value))) = read_entry(source, range, Range::next_back) else { break };
        if entries.insert(name.clone(), value).is_some() {
            break;
        }
        end = Bound::Excluded(name);
    }
    let notes = entries.into_iter().filter(|(name, _)| !OTHER_ENTRIES.contains(&name.as_str()));
    notes.filter_map(|(name, value)| Some((name, value?))).collect()
}

/// The entry at one end of a range.
fn read_entry(
    source: &mut DamagedTables,
    range: (Bound<&str>, Bound<&str>),
    read_end: fn(&mut MetaRange) -> Option<MetaItem>,
) -> Result<Option<Entry>, ()> {
    source.with_tables(1, |parts| {
        let Some(table) = &parts.meta else { return Ok(None) };
        let Some((name, value)) = read_end(&mut table.range::<&str>(range)?).transpose()? else {
            return Ok(None);
        };
        let value = Some(value.value()).filter(|value| value.len() <= NOTE_BYTES_MAX).map(<[u8]>::to_vec);
        Ok(Some((name.value().to_owned(), value)))
    })
}

/// The first entry that can be read after one that cannot.
fn read_entry_after_gap(source: &mut DamagedTables, last: &str, failures: &mut usize) -> Option<Entry> {
    for name in later_names(last) {
        if *failures == FAILURES_MAX {
            break;
        }
        match read_entry(source, (Bound::Included(name.as_str()), Bound::Unbounded), Range::next) {
            Ok(found) => return found,
            Err(()) => *failures += 1,
        }
    }
    None
}

/// Names after this one, in their order: those that differ in the last character, then in the one before, and so on. Most
/// notes have a date at the end, so that the next one is a few steps away.
fn later_names(name: &str) -> impl Iterator<Item = String> {
    let ends = name.char_indices().rev();
    let later = ends.flat_map(|(at, end)| {
        let last = if end.is_ascii_digit() { '9' } else { 'z' };
        let start = name.get(..at).unwrap_or_default();
        (end..=last).skip(1).map(move |end| format!("{start}{end}"))
    });
    let first = ('a'..='z').filter(|_| name.is_empty()).map(String::from);
    later.chain(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_names_are_in_order_and_lead_to_the_next_day_month_and_name() {
        let names: Vec<String> = later_names("day/2026-09-28").collect();
        assert!(names.is_sorted() && names.iter().all(|name| name.as_str() > "day/2026-09-28"), "{names:?}");
        for next in ["day/2026-09-29", "day/2026-09-3", "day/2027", "daz", "e"] {
            assert!(names.iter().any(|name| name == next), "{next}");
        }
        assert_eq!(later_names("").count(), 26);
    }
}
