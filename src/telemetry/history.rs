//! The results of recent batches and their ancestors. They show why a batch had its size, and which batches a record
//! was in, also after a restart. No I/O, no clock.
//!
//! A part of a batch may be cut again before it was sent. It was never reported, so the history leaves it out: the
//! parent of a send is its nearest ancestor that was sent, and is always in the list.
//!
//! The number of sends is bounded in memory, and more so on disk, because the note is always written completely.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::api::BatchReport;
use crate::model::{BatchId, OpenBatch};

/// The name of the note in the store.
pub const NOTE_NAME: &str = "batches";
/// Sends in memory.
const RECENT_SENDS_MAX: usize = 500;
/// Sends on disk: the newest ones that fit into the note.
const SAVED_SENDS_MAX: usize = 200;
const NOTE_BYTES_MAX: usize = 100_000;
/// Batches that were not sent yet. There are at most about this many open batches.
const UNSENT_BATCHES_MAX: usize = 1024;
/// Sends in one lineage, the newest: an outage can send the same record for days.
const LINEAGE_SENDS_MAX: usize = 100;

/// Recent sends of batches, with their parents.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The newest first.
    sends: VecDeque<BatchReport>,
    /// Batches that have not been sent yet, each with its nearest ancestor that was. Newest last.
    unsent: VecDeque<(BatchId, BatchId)>,
}

/// The format on disk.
#[derive(Serialize, Deserialize)]
struct Note<R> {
    #[serde(default = "Vec::new")]
    batches: Vec<R>,
    #[serde(default)]
    unsent: Vec<(BatchId, BatchId)>,
}

impl History {
    /// Continues with the history of the previous run and the batches that it left open. A note that cannot be decoded
    /// was written by another version and is dropped: no decision depends on it.
    pub fn restore(note: Option<&[u8]>, open: &[OpenBatch]) -> Self {
        let note = note.map(serde_json::from_slice).transpose().unwrap_or_else(|error| {
            tracing::warn!(%error, "the batch history could not be decoded; starting with an empty history");
            None
        });
        let kept: Note<BatchReport> = note.unwrap_or(Note { batches: Vec::new(), unsent: Vec::new() });
        let mut history = Self { sends: kept.batches.into(), unsent: VecDeque::new() };
        history.sends.truncate(RECENT_SENDS_MAX);
        for batch in open.iter().take(UNSENT_BATCHES_MAX) {
            // The note knows which parents were never sent; after a crash it may not know the batch yet.
            let known = kept.unsent.iter().find(|(id, _)| *id == batch.id).map(|(_, parent)| *parent);
            if let Some(parent) = known.or(batch.parent).filter(|_| history.find_send(batch.id).is_none()) {
                history.unsent.push_back((batch.id, parent));
            }
        }
        history
    }

    /// The note to save, with the newest sends that fit into it.
    pub fn to_note(&self) -> Vec<u8> {
        let unsent: Vec<_> = self.unsent.iter().rev().take(SAVED_SENDS_MAX).copied().collect();
        let size = |part: serde_json::Result<Vec<u8>>| part.map_or(0, |text| text.len() + 1);
        let mut room = NOTE_BYTES_MAX.saturating_sub(size(serde_json::to_vec(&unsent)));
        let fits = |send: &&BatchReport| {
            let rest = room.checked_sub(size(serde_json::to_vec(send)));
            room = rest.unwrap_or(0);
            rest.is_some()
        };
        let batches: Vec<_> = self.sends.iter().take(SAVED_SENDS_MAX).take_while(fits).collect();
        serde_json::to_vec(&Note { batches, unsent }).unwrap_or_default()
    }

    /// Sets the parent of a send to its nearest ancestor that was sent.
    pub fn resolve_parent(&mut self, send: &mut BatchReport) {
        if let Some(parent) = self.take_unsent(send.id) {
            send.parent = Some(parent);
        } else if let Some(before) = self.find_send(send.id) {
            send.parent = before.parent;
        }
    }

    /// Adds a send whose parent was resolved.
    pub fn record_send(&mut self, send: BatchReport) {
        self.sends.truncate(RECENT_SENDS_MAX - 1);
        self.sends.push_front(send);
    }

    /// A batch was replaced by its parts, or by itself under a new id. Its send, if any, is recorded before this.
    pub fn record_division(&mut self, from: BatchId, into: &[BatchId]) {
        let parent = self.take_unsent(from).unwrap_or(from);
        for id in into {
            self.unsent.push_back((*id, parent));
        }
        let excess = self.unsent.len().saturating_sub(UNSENT_BATCHES_MAX);
        self.unsent.drain(..excess);
    }

    /// The latest sends, the newest first.
    pub fn latest_batches(&self, limit: usize) -> Vec<BatchReport> {
        self.sends.iter().take(limit).cloned().collect()
    }

    /// The sends of a batch and of its ancestors, the oldest first.
    pub fn find_lineage(&self, batch: BatchId) -> Vec<BatchReport> {
        let mut lineage_ids = vec![batch];
        while let Some(parent) = lineage_ids.last().and_then(|id| self.find_parent(*id)) {
            // A damaged note may contain a cycle of parents.
            if lineage_ids.contains(&parent) {
                break;
            }
            lineage_ids.push(parent);
        }
        let sends = self.sends.iter().filter(|send| lineage_ids.contains(&send.id)).take(LINEAGE_SENDS_MAX);
        let mut lineage: Vec<_> = sends.cloned().collect();
        lineage.reverse();
        lineage
    }

    /// The sends of the batches that this one was split into, the oldest first.
    pub fn find_parts(&self, batch: BatchId) -> Vec<BatchReport> {
        let is_part = |send: &&BatchReport| send.parent == Some(batch) && send.id != batch;
        let mut parts: Vec<_> = self.sends.iter().filter(is_part).take(LINEAGE_SENDS_MAX).cloned().collect();
        parts.reverse();
        parts
    }

    /// The batches whose ids begin or end with these hexadecimal digits, of those that are open and those in the history.
    pub fn find_by_part(&self, digits: &str, open: &[BatchId]) -> Vec<BatchId> {
        let digits = digits.to_ascii_lowercase();
        let unsent = self.unsent.iter().rev().map(|(id, _)| *id);
        let mut found: Vec<BatchId> = Vec::new();
        for id in open.iter().copied().chain(unsent).chain(self.sends.iter().map(|send| send.id)) {
            let text = id.0.simple().to_string();
            if (text.starts_with(&digits) || text.ends_with(&digits)) && !found.contains(&id) {
                found.push(id);
            }
        }
        found
    }

    fn find_parent(&self, id: BatchId) -> Option<BatchId> {
        let unsent = || self.unsent.iter().find(|(unsent, _)| *unsent == id).map(|(_, parent)| *parent);
        self.find_send(id).map_or_else(unsent, |send| send.parent)
    }

    fn find_send(&self, id: BatchId) -> Option<&BatchReport> {
        self.sends.iter().find(|send| send.id == id)
    }

    fn take_unsent(&mut self, id: BatchId) -> Option<BatchId> {
        let at = self.unsent.iter().position(|(unsent, _)| *unsent == id)?;
        self.unsent.remove(at).map(|(_, parent)| parent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples::sample_report;
    use crate::model::{BatchPhase, QueuePosition, SizeRule, Stage};

    fn push_send(history: &mut History, id: BatchId, parent: Option<BatchId>, attempt: u32) {
        let mut send = BatchReport { id, attempt, ..sample_report(SizeRule::Split, parent) };
        history.resolve_parent(&mut send);
        history.record_send(send);
    }

    fn open_batch(id: BatchId, parent: BatchId) -> OpenBatch {
        OpenBatch {
            id,
            parent: Some(parent),
            stage: Stage::Half,
            rule: SizeRule::Split,
            place: QueuePosition(0),
            records: 1,
            bytes: 1,
            attempt: 0,
            lone_failures: 0,
            phase: BatchPhase::Waiting,
        }
    }

    fn lineage_of(history: &History, id: BatchId) -> Vec<(BatchId, Option<BatchId>, u32)> {
        history.find_lineage(id).into_iter().map(|send| (send.id, send.parent, send.attempt)).collect()
    }

    /// A batch whose second half is cut unsent, and one of whose parts is sent twice.
    fn push_lineage(history: &mut History) -> [BatchId; 6] {
        let ids @ [fresh, first, second, third, fourth, _] = [(); 6].map(|()| BatchId::new());
        push_send(history, fresh, None, 1);
        history.record_division(fresh, &[first, second]);
        push_send(history, first, Some(fresh), 1);
        history.record_division(second, &[third, fourth]);
        push_send(history, third, Some(second), 1);
        push_send(history, third, Some(second), 2);
        ids
    }

    #[test]
    fn parents_are_the_nearest_that_were_sent() {
        let mut history = History::default();
        let [fresh, first, _, third, fourth, renamed] = push_lineage(&mut history);
        let root = (fresh, None, 1);
        assert_eq!(lineage_of(&history, first), [root, (first, Some(fresh), 1)]);
        let twice = [root, (third, Some(fresh), 1), (third, Some(fresh), 2)];
        assert_eq!(lineage_of(&history, third), twice);
        assert_eq!(lineage_of(&history, fourth), [root], "it was not sent, but its ancestor was");
        history.record_division(third, &[renamed]);
        assert_eq!(lineage_of(&history, renamed), twice);
        push_send(&mut history, renamed, Some(third), 1);
        assert_eq!(lineage_of(&history, renamed)[3], (renamed, Some(third), 1));
        assert_eq!(lineage_of(&history, BatchId::new()), []);
    }

    #[test]
    fn a_restart_changes_nothing() {
        let mut history = History::default();
        let [fresh, first, second, third, fourth, _] = push_lineage(&mut history);
        let left = [open_batch(fourth, second), open_batch(third, second)];
        let mut resumed = History::restore(Some(&history.to_note()), &left);
        assert_eq!(resumed.latest_batches(10), history.latest_batches(10));
        for id in [fresh, first, third, fourth] {
            assert_eq!(lineage_of(&resumed, id), lineage_of(&history, id));
        }
        push_send(&mut resumed, fourth, Some(second), 1);
        assert_eq!(lineage_of(&resumed, fourth)[1], (fourth, Some(fresh), 1));
        // Batches that were closed meanwhile are dropped.
        assert!(History::restore(Some(&history.to_note()), &[]).unsent.is_empty());
    }

    #[test]
    fn after_a_crash_the_parents_come_from_the_batch_rows() {
        let [fresh, part] = [(); 2].map(|()| BatchId::new());
        let mut history = History::default();
        push_send(&mut history, fresh, None, 1);
        for note in [history.to_note(), b"no json".to_vec(), Vec::new()] {
            let resumed = History::restore(Some(&note), &[open_batch(part, fresh)]);
            assert_eq!(lineage_of(&resumed, part), lineage_of(&resumed, fresh));
            assert_eq!(resumed.find_parent(part), Some(fresh));
        }
    }

    #[test]
    fn the_note_has_a_bound_and_prefers_the_newest() {
        let mut history = History::default();
        let fresh = BatchId::new();
        for _ in 0..2000 {
            history.record_division(fresh, &[BatchId::new()]);
            push_send(&mut history, BatchId::new(), None, 1);
        }
        assert_eq!((history.sends.len(), history.unsent.len()), (RECENT_SENDS_MAX, UNSENT_BATCHES_MAX));
        let note = history.to_note();
        assert!(note.len() <= NOTE_BYTES_MAX + 100, "{}", note.len());
        assert_eq!(
            History::restore(Some(&note), &[]).latest_batches(RECENT_SENDS_MAX),
            history.latest_batches(SAVED_SENDS_MAX)
        );
        for send in &mut history.sends {
            send.note = "\u{1}".repeat(200);
        }
        let note = history.to_note();
        assert!(note.len() <= NOTE_BYTES_MAX + 100, "{}", note.len());
        let kept = History::restore(Some(&note), &[]).latest_batches(RECENT_SENDS_MAX);
        assert!(kept.len() > 50, "{}", kept.len());
        assert_eq!(kept, history.latest_batches(kept.len()));
    }

    #[test]
    fn cycles_and_long_lineages_end() {
        let [one, other] = [(); 2].map(|()| BatchId::new());
        let mut history = History::default();
        push_send(&mut history, one, Some(other), 1);
        push_send(&mut history, other, Some(one), 1);
        assert_eq!(history.find_lineage(one).len(), 2);
        for attempt in 1..=u32::try_from(RECENT_SENDS_MAX).unwrap() {
            push_send(&mut history, one, None, attempt);
        }
        let lineage = history.find_lineage(one);
        assert_eq!((lineage.len(), lineage[LINEAGE_SENDS_MAX - 1].attempt), (LINEAGE_SENDS_MAX, 500));
    }
}
