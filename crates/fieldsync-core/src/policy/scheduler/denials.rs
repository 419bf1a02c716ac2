//! Answers that send the sender away: a credential that is refused, a wrong address, a portal, throttling.
//!
//! They are about everyone, until something else gets through. Then they are about the set that drew them: a
//! firewall, a proxy or a worker that dies may give any of them because of one record. So a set that was
//! denied lets others go first, and the third time it must; when others got through in between and it is denied
//! again, that is held against it as a refusal is. While everyone is denied, nothing is counted, and what is
//! sent to find out is small.

use super::bisection::{Failing, Family};
use super::responses::keep;
use super::{Disposition, Entry, Scheduler, Sent, Step, View};
use crate::model::{BatchId, BatchPhase, DeniedSet, LastError, OpenBatch, Stage};
use crate::policy::backoff;
use crate::policy::isolation::Cut;

/// Denials in a row before one may be held against the set: something else goes before the third.
pub(super) const DENIALS_FOR_FREE: u32 = 2;
/// A set that was denied so often goes no more as a whole while nothing else gets through: each set there is may
/// have its record at fault.
const DENIALS_OF_WHOLE_MAX: u32 = 8;
/// So many sets are not denied by chance: everyone is.
const DENIED_SETS_OF_EVERYONE: usize = 3;
/// Denied sets that a status names.
const DENIED_SETS_NAMED: usize = 10;
/// Most batches of one record that are cut from larger ones to see whether everyone is denied.
const SINGLES_MAX: usize = 50;
/// What became of everything else since a set was last denied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Others {
    /// Nothing else was sent.
    #[default]
    Silent,
    /// Something was.
    Sent,
    /// A look-up got an answer of the protocol.
    Answered,
    /// Records were stored.
    Stored,
}

/// How a set was denied.
#[derive(Clone, Debug, Default)]
pub(super) struct Denials {
    /// In a row; those of the batch that it was cut from among them.
    pub(super) count: u32,
    pub(super) others: Others,
    /// The last one.
    error: Option<LastError>,
}

impl Denials {
    /// Of a part of a batch that was denied so often: another set, so it need not wait for others.
    pub(super) fn of_part(count: u32) -> Self {
        let others = if count > 0 { Others::Sent } else { Others::Silent };
        Self { count, others, error: None }
    }
}

impl Entry {
    /// Whether others go first, if there are any.
    pub(super) fn yields(&self) -> bool {
        self.denials.count > 0 && self.denials.others == Others::Silent
    }

    /// Whether a record of it goes instead of all: it was denied often enough, and nothing else was sent, or got
    /// through in a long time.
    pub(super) fn needs_carving(&self) -> bool {
        let Denials { count, others, .. } = self.denials;
        let alone = count >= DENIALS_FOR_FREE && others == Others::Silent;
        let long = count >= DENIALS_OF_WHOLE_MAX && others < Others::Stored;
        (alone || long) && self.batch.records > 1
    }

    /// Whether it is denied while others are known to get through.
    pub(super) fn is_denied_alone(&self) -> bool {
        self.denials.count >= DENIALS_FOR_FREE && self.denials.others == Others::Stored
    }
}

impl Scheduler {
    /// Batches that are denied while others get through, for people.
    pub fn denied_sets(&self) -> Vec<DeniedSet> {
        let alone = self.open.values().filter(|entry| entry.is_denied_alone());
        let named = alone.filter_map(|entry| {
            let OpenBatch { id, records, .. } = entry.batch;
            let error = entry.denials.error.clone()?;
            Some(DeniedSet { batch_id: id, records, denials: entry.denials.count, error })
        });
        named.take(DENIED_SETS_NAMED).collect()
    }

    /// Whether a batch is known to be denied alone: what is said of it says nothing of the link.
    pub fn is_denied_alone(&self, id: BatchId) -> bool {
        self.open.get(&id).is_some_and(Entry::is_denied_alone)
    }

    /// Nothing got through since several sets were denied, and look-ups show no change.
    pub(super) fn is_everyone_denied(&self) -> bool {
        self.are_several_denied() && !self.server.has_recovered()
    }

    /// Nothing got through since several sets were denied, or since two were and a record that the server has.
    pub(super) fn are_several_denied(&self) -> bool {
        let denied = |entry: &&Entry| entry.denials.error.is_some() && entry.denials.others < Others::Stored;
        let denied = self.open.values().filter(denied).count();
        let enough = self.server.has_canary_failed() || denied >= DENIED_SETS_OF_EVERYONE;
        self.failing == Failing::Several && enough
    }

    pub(super) fn has_denied(&self) -> bool {
        self.open.values().any(|entry| entry.denials.count > 0)
    }

    /// Something else is on its way.
    pub(super) fn others_went(&mut self, id: BatchId) {
        self.note_others(Some(id), Others::Sent);
    }

    pub(super) fn note_others(&mut self, except: Option<BatchId>, what: Others) {
        for (_, entry) in self.open.iter_mut().filter(|(other, _)| Some(**other) != except) {
            entry.denials.others = entry.denials.others.max(what);
        }
    }

    /// A batch was sent away.
    pub(super) fn denied(&mut self, view: &View<'_>, batch: &OpenBatch, sent: &Sent<'_>) -> Disposition {
        let (now, id) = (view.now, batch.id);
        self.failed(id);
        let Some(entry) = self.open.get_mut(&id) else { return keep(BatchPhase::Waiting, 0, None) };
        entry.denials.count = entry.denials.count.saturating_add(1);
        entry.denials.error = Some(sent.error.clone());
        let others = std::mem::take(&mut entry.denials.others);
        let count = entry.denials.count;
        let is_third = count > DENIALS_FOR_FREE;
        if is_third && others == Others::Stored {
            return self.refused(view, batch, false, sent);
        }
        self.server.batch_denied();
        self.waits.back_off(view, sent.verdict, self.server.may_query(view.config), &mut self.rng);
        // A server that says itself when to come back is not asked anything besides.
        self.control_wanted |= !self.waits.is_server_asked();
        let alone = self.failing == Failing::One(id);
        if is_third && others == Others::Answered && alone && batch.records > 1 {
            // Nothing else is there to be sent, so no record may be blamed: its parts will show.
            self.waits.end();
            if let Some(cut) = self.next_cut(view, batch) {
                return self.cut_up(view, id, cut, None);
            }
        }
        if is_third && batch.records == 1 {
            self.suspect_denied(view, id, sent);
        }
        let retry = &view.config.retry;
        let due = if is_third {
            now + retry.max_backoff.0
        } else {
            now + backoff::delay(retry.initial_backoff.0, retry.max_backoff.0, count, &mut self.rng)
        };
        let lone = self.open.get(&id).map_or(0, |entry| entry.evidence.counted);
        self.set(id, Step::Send { due });
        keep(BatchPhase::Waiting, lone, None)
    }

    /// A single record was denied once more: evidence, if others get through around it.
    fn suspect_denied(&mut self, view: &View<'_>, id: BatchId, sent: &Sent<'_>) {
        let last_success = self.undisturbed_success(id);
        if let Some(entry) = self.open.get_mut(&id) {
            entry.evidence.failed_alone(view.now, last_success);
            entry.refusal = Some(sent.error.clone());
        }
    }

    /// Records of others were stored: what was denied may be tried again soon.
    pub(super) fn release_denied(&mut self, view: &View<'_>) {
        self.note_others(None, Others::Stored);
        let retry = &view.config.retry;
        for entry in self.open.values_mut().filter(|entry| entry.denials.count > 0) {
            let count = entry.denials.count.saturating_sub(DENIALS_FOR_FREE);
            let wait = backoff::delay(retry.initial_backoff.0, retry.max_backoff.0, count, &mut self.rng);
            if let Step::Send { due } = &mut entry.step {
                *due = (view.now + wait).min(*due);
            }
        }
    }

    /// One record of a batch goes alone: the first, which no other of the batch holds back by its key.
    pub(super) fn carve(&mut self, view: &View<'_>, entry: &Entry) -> Disposition {
        let OpenBatch { id, records, stage, .. } = entry.batch;
        let family = Family {
            ancestors: entry.ancestors,
            denials: entry.denials.count,
            rest_due: Some(view.now + view.config.retry.max_backoff.0),
            ..Family::default()
        };
        self.found_family(id, family);
        let cut = Cut { parts: vec![1, records - 1], stage: stage.max(Stage::Half) };
        Disposition::Cut { cut, error: None }
    }

    /// Whether one more record may be cut from a batch to see whether everyone is denied.
    pub(super) fn may_carve(&self) -> bool {
        let singles = self.open.values().filter(|entry| entry.denials.count > 0 && entry.batch.records == 1);
        singles.count() < SINGLES_MAX
    }
}
