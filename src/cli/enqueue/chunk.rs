//! Records that are sent in one request, and where in the input each of them stands: a chunk is stored
//! together or not at all, and one that is too large for the daemon is cut in halves.

use bytes::Bytes;

use super::check::Ready;
use crate::client::{JSON, NDJSON};
use crate::model::RecordId;

const MAX_RECORDS: usize = 500;

/// Where a record stands in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) source: usize,
    /// Where it begins, from 1.
    pub(super) line: u64,
    /// Its number in an array, from 1: there, lines are no place to cut the input at.
    pub(super) element: Option<u64>,
}

#[derive(Default)]
pub(super) struct Chunk {
    lines: Vec<u8>,
    records: Vec<Packed>,
    /// A payload out of an indented array has line ends of its own, which must pass like all its bytes.
    multi_line: bool,
}

#[derive(Clone, Copy)]
struct Packed {
    id: RecordId,
    made_here: bool,
    position: Position,
    /// Where it ends in the lines, its separator left out.
    end: usize,
}

impl Chunk {
    /// One record always fits, however large: the daemon knows how large it may be.
    pub(super) fn fits(&self, record: &Ready, max_bytes: usize) -> bool {
        self.is_empty()
            || self.records.len() < MAX_RECORDS && self.lines.len() + record.json.len() < max_bytes
    }

    pub(super) fn push(&mut self, record: &Ready, position: Position) {
        self.lines.extend_from_slice(&record.json);
        let end = self.lines.len();
        self.lines.push(b'\n');
        self.records.push(Packed { id: record.id, made_here: record.made_here, position, end });
        self.multi_line |= record.json.contains(&b'\n') || record.json.contains(&b'\r');
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn records(&self) -> u64 {
        self.records.len() as u64
    }

    pub(super) fn bytes(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = RecordId> {
        self.records.iter().map(|record| record.id)
    }

    /// How many have an id that only this run can have sent before.
    pub(super) fn made_here(&self) -> u64 {
        self.records.iter().map(|record| u64::from(record.made_here)).sum()
    }

    /// Of the first and the last record.
    pub(super) fn ends(&self) -> Option<(Position, Position)> {
        Some((self.records.first()?.position, self.records.last()?.position))
    }

    /// Where the record of this number stands, from 1; without a number, the only one.
    pub(super) fn position(&self, number: Option<u64>) -> Option<Position> {
        let named = number.and_then(|number| self.records.get(usize::try_from(number).ok()?.checked_sub(1)?));
        match (named, self.records.as_slice()) {
            (Some(record), _) | (None, [record]) => Some(record.position),
            _ => None,
        }
    }

    /// `None` where there is but one record.
    pub(super) fn halves(&self) -> Option<[Self; 2]> {
        let (first, second) = self.records.split_at(self.records.len() / 2);
        let cut = first.last()?.end + 1;
        let part = |records: &[Packed], lines: &[u8], skipped: usize| Self {
            lines: lines.to_vec(),
            records: records.iter().map(|record| Packed { end: record.end - skipped, ..*record }).collect(),
            multi_line: self.multi_line,
        };
        Some([part(first, &self.lines[..cut], 0), part(second, &self.lines[cut..], cut)])
    }

    pub(super) fn body(&self) -> (&'static str, Bytes) {
        if !self.multi_line {
            return (NDJSON, Bytes::copy_from_slice(&self.lines));
        }
        let mut array = self.lines.clone();
        for record in &self.records {
            array[record.end] = b',';
        }
        array.insert(0, b'[');
        array.pop();
        array.push(b']');
        (JSON, array.into())
    }
}
