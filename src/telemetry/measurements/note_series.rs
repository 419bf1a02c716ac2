//! A note for each day: one is open, the others are kept as they are on disk, compressed. So memory and disk are bounded
//! by the same numbers, and a save writes only what has changed.
//!
//! The note that was opened longest ago makes room, not the one with the oldest date: a clock that was wrong for days must
//! neither keep the places of days to come nor take those of the right ones. So each note carries a number that grows.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::store::NoteChange;

/// A decoded note that takes more is damaged.
const DECODED_BYTES_MAX: usize = 1 << 20;
const COMPRESSION_LEVEL: i32 = 3;
/// The start of zstd's skippable frame (RFC 8878, section 3.1.2) that contains the number of a note, and its bytes.
const NUMBER_FRAME_START: [u8; 8] = *b"\x50\x2a\x4d\x18\x08\0\0\0";
const NUMBER_BYTES: usize = 8;
/// The length of a date, such as `2026-03-01`.
const DATE_CHARS: usize = 10;

/// What was measured in a day, as it is saved.
pub(super) trait Note: Default + Serialize + DeserializeOwned {
    /// Restores the bounds of a decoded note, which may be damaged.
    fn repair(&mut self);
}

/// How many notes there may be, and how they are named.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeriesLimits {
    /// The first part of each name; the date follows.
    pub(super) prefix: &'static str,
    pub(super) days_max: usize,
    pub(super) bytes_max: usize,
}

/// The notes, by date.
#[derive(Debug)]
pub(super) struct NoteSeries<N> {
    limits: SeriesLimits,
    open: Option<(String, N)>,
    closed: BTreeMap<String, Box<[u8]>>,
    /// The dates whose note differs from the one on disk.
    unsaved: BTreeSet<String>,
    /// Of the note that was opened last.
    last_number: u64,
}

impl<N: Note> NoteSeries<N> {
    pub(super) fn new(limits: SeriesLimits) -> Self {
        Self { limits, open: None, closed: BTreeMap::new(), unsaved: BTreeSet::new(), last_number: 0 }
    }

    /// Takes over a note of the previous run, if its name is one of this series.
    pub(super) fn restore_note(&mut self, name: &str, note: &[u8]) -> bool {
        let date = name.strip_prefix(self.limits.prefix).filter(|date| date.len() == DATE_CHARS);
        let Some(date) = date else { return false };
        self.last_number = self.last_number.max(number_of(note));
        self.closed.insert(date.to_owned(), note.into());
        self.remove_excess(self.limits.days_max);
        true
    }

    /// The measurements of a day, to add to them.
    pub(super) fn open_day(&mut self, date: &str) -> &mut N {
        if self.open.as_ref().is_none_or(|(open, _)| open != date) {
            self.close_day();
        }
        if !self.unsaved.contains(date) {
            self.unsaved.insert(date.to_owned());
        }
        if self.open.is_none() {
            let note = take_note(&mut self.closed, date);
            self.last_number = self.last_number.saturating_add(1);
            self.remove_excess(self.limits.days_max - 1);
            return &mut self.open.insert((date.to_owned(), note)).1;
        }
        &mut self.open.get_or_insert_with(|| (date.to_owned(), N::default())).1
    }

    /// Visits the days of a range, the latest first.
    pub(super) fn visit_days(&self, from: &str, to: &str, mut visit: impl FnMut(&str, &N)) {
        let is_covered = |date: &str| date >= from && date <= to;
        let mut open = self.open.as_ref().filter(|(date, _)| is_covered(date));
        for (date, note) in self.closed.iter().rev().filter(|(date, _)| is_covered(date)) {
            if let Some((open, note)) = open.take_if(|(open, _)| open > date) {
                visit(open, note);
            }
            match decode_note(note) {
                Ok(note) => visit(date, &note),
                Err(error) => tracing::warn!(%error, date, "the measurements of a day cannot be decoded"),
            }
        }
        if let Some((open, note)) = open {
            visit(open, note);
        }
    }

    /// The notes that differ from those on disk.
    pub(super) fn unsaved_notes(&self) -> impl Iterator<Item = NoteChange> {
        self.unsaved.iter().filter_map(|date| {
            let note = match &self.open {
                Some((open, note)) if open == date => Some(encode_note(note, self.last_number).ok()?),
                _ => self.closed.get(date).map(|note| note.to_vec()),
            };
            Some(NoteChange { name: format!("{}{date}", self.limits.prefix).into(), note })
        })
    }

    /// The notes were handed over to be saved.
    pub(super) fn mark_saved(&mut self) {
        self.unsaved.clear();
    }

    #[cfg(test)]
    pub(super) fn open_note(&self) -> Option<&N> {
        self.open.as_ref().map(|(_, note)| note)
    }

    fn close_day(&mut self) {
        let Some((date, note)) = self.open.take() else { return };
        match encode_note(&note, self.last_number) {
            Ok(note) => drop(self.closed.insert(date, note.into())),
            Err(error) => tracing::warn!(%error, date, "the measurements of a day cannot be encoded"),
        }
    }

    /// Removes the days beyond the limits that were opened longest ago.
    fn remove_excess(&mut self, closed_max: usize) {
        while self.closed.len() > closed_max || self.closed_bytes() > self.limits.bytes_max {
            let first = self.closed.iter().min_by_key(|(_, note)| number_of(note));
            let Some(date) = first.map(|(date, _)| date.clone()) else { return };
            self.closed.remove(&date);
            self.unsaved.insert(date);
        }
    }

    fn closed_bytes(&self) -> usize {
        self.closed.values().map(|note| note.len()).sum()
    }
}

fn take_note<N: Note>(closed: &mut BTreeMap<String, Box<[u8]>>, date: &str) -> N {
    let Some(note) = closed.remove(date) else { return N::default() };
    decode_note(&note).unwrap_or_else(|error| {
        tracing::warn!(%error, date, "the saved measurements of a day cannot be decoded; starting with none");
        N::default()
    })
}

/// The checksum of the compressed form finds damage on the disk.
fn encode_note(note: &impl Serialize, number: u64) -> io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(COMPRESSION_LEVEL)?;
    compressor.include_checksum(true)?;
    let mut encoded = compressor.compress(&serde_json::to_vec(note)?)?;
    encoded.extend(NUMBER_FRAME_START);
    encoded.extend(number.to_le_bytes());
    Ok(encoded)
}

/// The number of an encoded note; 0 if it has none.
fn number_of(note: &[u8]) -> u64 {
    let number = note.split_last_chunk::<NUMBER_BYTES>();
    let number = number.filter(|(rest, _)| rest.ends_with(&NUMBER_FRAME_START));
    number.map_or(0, |(_, number)| u64::from_le_bytes(*number))
}

fn decode_note<N: Note>(note: &[u8]) -> io::Result<N> {
    let mut decoded: N = serde_json::from_slice(&zstd::bulk::decompress(note, DECODED_BYTES_MAX)?)?;
    decoded.repair();
    Ok(decoded)
}
