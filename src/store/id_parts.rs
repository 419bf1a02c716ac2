//! Finds the records that a part of an id means: hexadecimal digits of its beginning or its end.
//!
//! Ids are sorted, so those with a beginning are one range. For an end, every id must be compared, in steps: between
//! them, other readers have their turn.

use std::ops::Bound;

use uuid::Uuid;

use super::error::StoreError;
use super::read::StoreView;
use crate::model::RecordId;

/// More ids that a part may mean are not named.
const CANDIDATES_MAX: usize = 5;
/// Hexadecimal digits of an id, and the bits of each.
const ID_DIGITS: usize = 32;
const DIGIT_BITS: usize = 4;

/// Some digits of the beginning or the end of an id.
#[derive(Clone, Copy, Debug)]
pub struct IdDigits {
    value: u128,
    count: usize,
}

impl IdDigits {
    /// None unless these are hexadecimal digits, and fewer than a whole id has.
    pub fn parse(digits: &str) -> Option<Self> {
        let is_part =
            (1..ID_DIGITS).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = u128::from_str_radix(digits, 16).ok().filter(|_| is_part)?;
        Some(Self { value, count: digits.len() })
    }
}

/// The ids that one step found.
#[derive(Debug)]
pub struct EndingMatches {
    /// The ids with the end, at most a few.
    pub found: Vec<RecordId>,
    /// The last id of this step, after which the next one continues; none if no id is left.
    pub next: Option<RecordId>,
}

impl StoreView {
    /// The records whose ids begin with these digits: all, or some of several.
    pub fn find_by_beginning(&self, digits: IdDigits) -> Result<Vec<RecordId>, StoreError> {
        let shift = (ID_DIGITS - digits.count) * DIGIT_BITS;
        let first = digits.value << shift;
        let last = first | ((1 << shift) - 1);
        let ids = self.list_ids(Bound::Included(first), Bound::Included(last))?.take(CANDIDATES_MAX);
        ids.map(|id| Ok(RecordId(Uuid::from_u128(id?)))).collect()
    }

    /// Compares the next ids with these digits, at most `step` of them. `after`: the last id of the step before.
    pub fn find_by_end(
        &self,
        digits: IdDigits,
        after: Option<RecordId>,
        step: usize,
    ) -> Result<EndingMatches, StoreError> {
        let mask = (1_u128 << (digits.count * DIGIT_BITS)) - 1;
        let start = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.0.as_u128()));
        let mut matches = EndingMatches { found: Vec::new(), next: None };
        for (compared, id) in self.list_ids(start, Bound::Unbounded)?.enumerate() {
            if compared == step {
                return Ok(matches);
            }
            let id = id?;
            matches.next = Some(RecordId(Uuid::from_u128(id)));
            if id & mask == digits.value && matches.found.len() < CANDIDATES_MAX {
                matches.found.push(RecordId(Uuid::from_u128(id)));
            }
        }
        matches.next = None;
        Ok(matches)
    }

    /// The ids of all records in a range, in order.
    fn list_ids(
        &self,
        start: Bound<u128>,
        end: Bound<u128>,
    ) -> Result<impl Iterator<Item = Result<u128, StoreError>>, StoreError> {
        let mut unlisted = self.unlisted.ids((start, end)).peekable();
        let mut listed = self.snapshot.manifest.range((start, end))?.peekable();
        Ok(std::iter::from_fn(move || {
            if let Some(id) = unlisted.next_if(|id| match listed.peek() {
                Some(Ok((next, _))) => *id < next.value(),
                Some(Err(_)) => false,
                None => true,
            }) {
                return Some(Ok(id));
            }
            listed.next().map(|item| Ok(item?.0.value()))
        }))
    }
}
