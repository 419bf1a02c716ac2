//! The records of one request, each with its position in the input. A chunk is stored completely or not at all. One that
//! is too large for the daemon is split in halves.

use bytes::Bytes;

use super::check::PreparedRecord;
use crate::client::{JSON, NDJSON};
use crate::model::RecordId;

const CHUNK_RECORDS_MAX: usize = 500;

/// The position of a record in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) source: usize,
    /// Where it begins, from 1.
    pub(super) line: u64,
    /// Its number in an array, from 1. An array cannot be continued from a line.
    pub(super) element: Option<u64>,
}

#[derive(Default)]
pub(super) struct RecordChunk {
    lines: Vec<u8>,
    records: Vec<ChunkRecord>,
    /// A payload of an indented array contains line ends, which must be sent unchanged.
    is_multi_line: bool,
}

#[derive(Clone, Copy)]
struct ChunkRecord {
    id: RecordId,
    has_generated_id: bool,
    position: Position,
    /// Its end in `lines`, without the separator.
    end: usize,
}

impl RecordChunk {
    /// An empty chunk has room for any record: the daemon checks the size.
    pub(super) fn has_room_for(&self, record: &PreparedRecord, max_bytes: usize) -> bool {
        self.is_empty()
            || self.records.len() < CHUNK_RECORDS_MAX && self.lines.len() + record.json.len() < max_bytes
    }

    pub(super) fn push(&mut self, record: &PreparedRecord, position: Position) {
        self.lines.extend_from_slice(&record.json);
        let end = self.lines.len();
        self.lines.push(b'\n');
        self.records.push(ChunkRecord {
            id: record.id,
            has_generated_id: record.has_generated_id,
            position,
            end,
        });
        self.is_multi_line |= record.json.contains(&b'\n') || record.json.contains(&b'\r');
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn record_count(&self) -> u64 {
        self.records.len() as u64
    }

    pub(super) fn byte_count(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = RecordId> {
        self.records.iter().map(|record| record.id)
    }

    /// How many have a generated id.
    pub(super) fn count_generated_ids(&self) -> u64 {
        self.records.iter().map(|record| u64::from(record.has_generated_id)).sum()
    }

    /// The positions of the first and the last record.
    pub(super) fn first_and_last(&self) -> Option<(Position, Position)> {
        Some((self.records.first()?.position, self.records.last()?.position))
    }

    /// The position of the record with this number, from 1. Without a number: of the only record.
    pub(super) fn position_of(&self, number: Option<u64>) -> Option<Position> {
        let named = number.and_then(|number| self.records.get(usize::try_from(number).ok()?.checked_sub(1)?));
        match (named, self.records.as_slice()) {
            (Some(record), _) | (None, [record]) => Some(record.position),
            _ => None,
        }
    }

    /// `None` if there is only one record.
    pub(super) fn split_in_halves(&self) -> Option<[Self; 2]> {
        let (first, second) = self.records.split_at(self.records.len() / 2);
        let cut = first.last()?.end + 1;
        let part = |records: &[ChunkRecord], lines: &[u8], skipped: usize| Self {
            lines: lines.to_vec(),
            records: records
                .iter()
                .map(|record| ChunkRecord { end: record.end - skipped, ..*record })
                .collect(),
            is_multi_line: self.is_multi_line,
        };
        Some([part(first, &self.lines[..cut], 0), part(second, &self.lines[cut..], cut)])
    }

    pub(super) fn request_body(&self) -> (&'static str, Bytes) {
        if !self.is_multi_line {
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
