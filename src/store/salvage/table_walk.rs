//! Walks through a table of a damaged file, and skips what cannot be read.

use redb::{Key, Range, ReadOnlyTable, ReadableTableMetadata};

use super::damaged_tables::{DamagedTables, OpenedTables, guard_read};
use crate::store::panic_guard::catch_panics;

/// Gaps that one walk skips.
const GAPS_MAX: usize = 100_000;

/// A key that can be counted up, to skip what cannot be read.
pub(super) trait CountableKey: for<'a> Key<SelfType<'a> = Self> + Copy + 'static {
    const LAST_KEY: u128;
    fn to_number(self) -> u128;
    fn from_number(number: u128) -> Self;
}

impl CountableKey for u64 {
    const LAST_KEY: u128 = Self::MAX as u128;

    fn to_number(self) -> u128 {
        self.into()
    }

    fn from_number(number: u128) -> Self {
        Self::try_from(number).unwrap_or(Self::MAX)
    }
}

impl CountableKey for u128 {
    const LAST_KEY: u128 = Self::MAX;

    fn to_number(self) -> u128 {
        self
    }

    fn from_number(number: u128) -> Self {
        number
    }
}

type BytesTable<K> = ReadOnlyTable<K, &'static [u8]>;
type TableSelector<K> = fn(&OpenedTables) -> Option<&BytesTable<K>>;
type TableRange<K> = Range<'static, K, &'static [u8]>;

/// A walk through a table that skips what cannot be read.
pub(super) struct TableWalk<K: CountableKey> {
    table: TableSelector<K>,
    range: Option<TableRange<K>>,
    /// Where to continue after a gap; none at the end.
    from: Option<u128>,
    gaps: usize,
    seen: u64,
    most: u64,
    /// Whether there was no gap, and as many entries as the table claims.
    pub(super) is_complete: bool,
}

impl<K: CountableKey> TableWalk<K> {
    pub(super) fn new(source: &mut DamagedTables, table: TableSelector<K>) -> Self {
        let length = table_length(source, table);
        let most = length.unwrap_or(0).saturating_mul(2).saturating_add(10_000);
        Self { table, range: None, from: Some(0), gaps: 0, seen: 0, most, is_complete: length.is_some() }
    }

    /// The next entry that can be read. In a damaged table, keys may be unordered or repeated.
    pub(super) fn next(&mut self, source: &mut DamagedTables) -> Option<(K, Vec<u8>)> {
        loop {
            if self.range.is_none() {
                let (table, from) = (self.table, K::from_number(self.from?));
                let range = source
                    .with_tables(1, |parts| Ok(table(parts).map(|table| table.range(from..)).transpose()?));
                let Ok(range) = range else {
                    self.skip_gap(source);
                    continue;
                };
                self.range = Some(range?);
            }
            let range = self.range.as_mut()?;
            let next = guard_read(&source.reads, 1, || {
                let next = range.next().transpose()?;
                Ok(next.map(|(key, value)| (key.value(), value.value().to_vec())))
            });
            match next {
                Ok(Some((key, value))) if self.seen < self.most => {
                    self.seen += 1;
                    let after = key.to_number().checked_add(1).filter(|after| *after <= K::LAST_KEY);
                    self.from = after.map(|after| after.max(self.from.unwrap_or(0)));
                    return Some((key, value));
                }
                Ok(ended) => {
                    self.is_complete &=
                        ended.is_none() && table_length(source, self.table) == Some(self.seen);
                    self.from = None;
                    self.range = None;
                    return None;
                }
                Err(()) => self.skip_gap(source),
            }
        }
    }

    fn skip_gap(&mut self, source: &mut DamagedTables) {
        self.is_complete = false;
        let range = self.range.take();
        // What a panic left behind may panic again.
        drop(catch_panics(move || drop(range)));
        source.reopen_tables();
        self.gaps += 1;
        let from = self.from.filter(|_| self.gaps < GAPS_MAX);
        self.from = from.and_then(|from| self.find_key_after_gap(source, from));
    }

    /// The first key from which the walk can continue.
    fn find_key_after_gap(&self, source: &mut DamagedTables, from: u128) -> Option<u128> {
        let table = self.table;
        let mut reads = |key: u128| {
            let found = source.with_tables(1, |parts| {
                let Some(table) = table(parts) else { return Ok(None) };
                let first = table.range(K::from_number(key)..)?.next().transpose()?;
                Ok(Some(first.map(|(key, value)| (key.value(), value.value().len()))))
            });
            matches!(found, Ok(Some(_)))
        };
        let mut unread = from;
        let mut step: u128 = 1;
        let mut readable = loop {
            let key = from.checked_add(step).filter(|key| *key <= K::LAST_KEY)?;
            if reads(key) {
                break key;
            }
            unread = key;
            step = step.checked_mul(2)?;
        };
        while readable - unread > 1 {
            let middle = unread + (readable - unread) / 2;
            if reads(middle) {
                readable = middle;
            } else {
                unread = middle;
            }
        }
        Some(readable)
    }
}

/// The number of entries that the table claims.
fn table_length<K: CountableKey>(source: &mut DamagedTables, table: TableSelector<K>) -> Option<u64> {
    let length =
        source.with_tables(1, |parts| Ok(table(parts).map(ReadableTableMetadata::len).transpose()?));
    length.ok().flatten()
}
