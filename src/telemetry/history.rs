//! What became of recent batches, and which came of which: so that people can see why a batch had its
//! size and where a record's batches came from, after a restart, too. No I/O, no clock.
//!
//! A part of a batch may be cut again before it was ever sent. Nobody has heard of it, so it has no
//! place in the story: the parent of a send is the nearest batch that was sent, and whoever follows the
//! parents finds each in the list.
//!
//! Bounded: so many sends in memory, and fewer on disk, because the note is written as a whole.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::api::BatchReport;
use crate::model::{BatchId, OpenBatch};

/// Under which it is kept in the store.
pub const NOTE: &str = "batches";
/// Sends that can be asked for.
const RECENT: usize = 500;
/// Sends that are kept on disk, the newest, as far as there is room in the note.
const KEPT: usize = 200;
const MAX_NOTE_BYTES: usize = 100_000;
/// Batches that were not sent yet: there are at most about as many open ones.
const MAX_UNSENT: usize = 1024;
/// Sends in one lineage, the newest: an outage can send the same record for days.
const MAX_LINEAGE: usize = 100;

/// Recent sends of batches, and who came of whom.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The newest first.
    sends: VecDeque<BatchReport>,
    /// Batches of which no send is known, each with the one that was sent that it came of; the newest last.
    unsent: VecDeque<(BatchId, BatchId)>,
}

/// As it is kept.
#[derive(Serialize, Deserialize)]
struct Note<R> {
    #[serde(default = "Vec::new")]
    batches: Vec<R>,
    #[serde(default)]
    unsent: Vec<(BatchId, BatchId)>,
}

impl History {
    /// Goes on from what a former life kept, with the batches that it left open. What does not read was
    /// written by another version, and nothing depends on it.
    pub fn resume(note: Option<&[u8]>, open: &[OpenBatch]) -> Self {
        let note = note.map(serde_json::from_slice).transpose().unwrap_or_else(|error| {
            tracing::warn!(%error, "the list of former batches does not read and begins anew");
            None
        });
        let kept: Note<BatchReport> = note.unwrap_or(Note { batches: Vec::new(), unsent: Vec::new() });
        let mut history = Self { sends: kept.batches.into(), unsent: VecDeque::new() };
        history.sends.truncate(RECENT);
        for batch in open.iter().take(MAX_UNSENT) {
            // The note knows which parents were never sent; after a crash it may not know the batch yet.
            let known = kept.unsent.iter().find(|(id, _)| *id == batch.id).map(|(_, parent)| *parent);
            if let Some(parent) = known.or(batch.parent).filter(|_| history.send_of(batch.id).is_none()) {
                history.unsent.push_back((batch.id, parent));
            }
        }
        history
    }

    /// As it is kept: the newest, without regard to how much they have to tell.
    pub fn to_note(&self) -> Vec<u8> {
        let unsent: Vec<_> = self.unsent.iter().rev().take(KEPT).copied().collect();
        let size = |part: serde_json::Result<Vec<u8>>| part.map_or(0, |text| text.len() + 1);
        let mut room = MAX_NOTE_BYTES.saturating_sub(size(serde_json::to_vec(&unsent)));
        let fits = |send: &&BatchReport| {
            let rest = room.checked_sub(size(serde_json::to_vec(send)));
            room = rest.unwrap_or(0);
            rest.is_some()
        };
        let batches: Vec<_> = self.sends.iter().take(KEPT).take_while(fits).collect();
        serde_json::to_vec(&Note { batches, unsent }).unwrap_or_default()
    }

    /// A batch that was sent gets the nearest parent that was sent.
    pub fn resolve_parent(&mut self, send: &mut BatchReport) {
        if let Some(parent) = self.no_longer_unsent(send.id) {
            send.parent = Some(parent);
        } else if let Some(before) = self.send_of(send.id) {
            send.parent = before.parent;
        }
    }

    /// One more send, traced.
    pub fn push(&mut self, send: BatchReport) {
        self.sends.truncate(RECENT - 1);
        self.sends.push_front(send);
    }

    /// A batch goes on as others: its parts, or itself under a new id. Told after its send, if it was sent.
    pub fn record_division(&mut self, from: BatchId, into: &[BatchId]) {
        let parent = self.no_longer_unsent(from).unwrap_or(from);
        for id in into {
            self.unsent.push_back((*id, parent));
        }
        let excess = self.unsent.len().saturating_sub(MAX_UNSENT);
        self.unsent.drain(..excess);
    }

    /// The latest sends, the newest first.
    pub fn latest_batches(&self, limit: usize) -> Vec<BatchReport> {
        self.sends.iter().take(limit).cloned().collect()
    }

    /// The sends of a batch and of those that it came of, the oldest first.
    pub fn find_lineage(&self, batch: BatchId) -> Vec<BatchReport> {
        let mut family = vec![batch];
        while let Some(parent) = family.last().and_then(|id| self.find_parent(*id)) {
            // A note may say anything; it must not lead us round in circles.
            if family.contains(&parent) {
                break;
            }
            family.push(parent);
        }
        let sends = self.sends.iter().filter(|send| family.contains(&send.id)).take(MAX_LINEAGE);
        let mut lineage: Vec<_> = sends.cloned().collect();
        lineage.reverse();
        lineage
    }

    fn find_parent(&self, id: BatchId) -> Option<BatchId> {
        let unsent = || self.unsent.iter().find(|(unsent, _)| *unsent == id).map(|(_, parent)| *parent);
        self.send_of(id).map_or_else(unsent, |send| send.parent)
    }

    fn send_of(&self, id: BatchId) -> Option<&BatchReport> {
        self.sends.iter().find(|send| send.id == id)
    }

    fn no_longer_unsent(&mut self, id: BatchId) -> Option<BatchId> {
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
        history.push(send);
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
    fn push_family(history: &mut History) -> [BatchId; 6] {
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
        let [fresh, first, _, third, fourth, renamed] = push_family(&mut history);
        let root = (fresh, None, 1);
        assert_eq!(lineage_of(&history, first), [root, (first, Some(fresh), 1)]);
        let twice = [root, (third, Some(fresh), 1), (third, Some(fresh), 2)];
        assert_eq!(lineage_of(&history, third), twice);
        assert_eq!(lineage_of(&history, fourth), [root], "it was not sent, and came of what was");
        history.record_division(third, &[renamed]);
        assert_eq!(lineage_of(&history, renamed), twice);
        push_send(&mut history, renamed, Some(third), 1);
        assert_eq!(lineage_of(&history, renamed)[3], (renamed, Some(third), 1));
        assert_eq!(lineage_of(&history, BatchId::new()), []);
    }

    #[test]
    fn a_restart_changes_nothing() {
        let mut history = History::default();
        let [fresh, first, second, third, fourth, _] = push_family(&mut history);
        let left = [open_batch(fourth, second), open_batch(third, second)];
        let mut resumed = History::resume(Some(&history.to_note()), &left);
        assert_eq!(resumed.latest_batches(10), history.latest_batches(10));
        for id in [fresh, first, third, fourth] {
            assert_eq!(lineage_of(&resumed, id), lineage_of(&history, id));
        }
        push_send(&mut resumed, fourth, Some(second), 1);
        assert_eq!(lineage_of(&resumed, fourth)[1], (fourth, Some(fresh), 1));
        // What is closed by now is forgotten.
        assert!(History::resume(Some(&history.to_note()), &[]).unsent.is_empty());
    }

    #[test]
    fn after_a_crash_the_rows_tell_the_parents() {
        let [fresh, part] = [(); 2].map(|()| BatchId::new());
        let mut history = History::default();
        push_send(&mut history, fresh, None, 1);
        for note in [history.to_note(), b"no json".to_vec(), Vec::new()] {
            let resumed = History::resume(Some(&note), &[open_batch(part, fresh)]);
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
        assert_eq!((history.sends.len(), history.unsent.len()), (RECENT, MAX_UNSENT));
        let note = history.to_note();
        assert!(note.len() <= MAX_NOTE_BYTES + 100, "{}", note.len());
        assert_eq!(History::resume(Some(&note), &[]).latest_batches(RECENT), history.latest_batches(KEPT));
        for send in &mut history.sends {
            send.note = "\u{1}".repeat(200);
        }
        let note = history.to_note();
        assert!(note.len() <= MAX_NOTE_BYTES + 100, "{}", note.len());
        let kept = History::resume(Some(&note), &[]).latest_batches(RECENT);
        assert!(kept.len() > 50, "{}", kept.len());
        assert_eq!(kept, history.latest_batches(kept.len()));
    }

    #[test]
    fn circles_and_long_lines_end() {
        let [one, other] = [(); 2].map(|()| BatchId::new());
        let mut history = History::default();
        push_send(&mut history, one, Some(other), 1);
        push_send(&mut history, other, Some(one), 1);
        assert_eq!(history.find_lineage(one).len(), 2);
        for attempt in 1..=u32::try_from(RECENT).unwrap() {
            push_send(&mut history, one, None, attempt);
        }
        let lineage = history.find_lineage(one);
        assert_eq!((lineage.len(), lineage[MAX_LINEAGE - 1].attempt), (MAX_LINEAGE, 500));
    }
}
