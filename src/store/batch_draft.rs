//! A batch under construction: the members that a claim has chosen so far, and what it found out about other records.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};

use super::key_space::Lane;
use super::schema::{MemberRow, seq_of};
use super::state::Cursors;
use crate::policy::scheduler::ClaimOrder;
use crate::policy::sizing::Filling;

/// A record that may be sent.
pub(super) struct Candidate {
    pub(super) row: MemberRow,
    pub(super) record_type: String,
    pub(super) lane: Option<Lane>,
    /// Its due time in `retry`, if it failed.
    pub(super) due: Option<u64>,
}

impl Candidate {
    /// It is in this lane, and one of its predecessors blocks it.
    pub(super) fn block(&self, lane: &Lane) -> DeferredRecord {
        let (position, id, due) = (self.row.position, self.row.id, self.due);
        DeferredRecord::Blocked { lane: lane.clone(), position, id, due }
    }
}

/// How far a draft has come in a lane. Each record of a lane is examined once.
#[derive(Clone, Copy, Default)]
pub(super) struct LaneProgress {
    /// All records before this `seq` are in the draft.
    pub(super) next: u64,
    /// The successors of this record cannot be sent now: it cannot be sent itself, or is the one of its key.
    pub(super) blocked_at: Option<u64>,
    /// The first record that must not join because a record of another lane has its key.
    passed_over_at: Option<u64>,
}

/// A batch under construction.
pub(super) struct BatchDraft<'o> {
    pub(super) order: &'o ClaimOrder,
    pub(super) filling: Filling<'o>,
    pub(super) members: Vec<Candidate>,
    pub(super) positions: BTreeSet<u64>,
    pub(super) lanes: HashMap<Lane, LaneProgress>,
    /// Keys of members.
    keys: HashSet<String>,
    pub(super) cursors: Cursors,
    /// Candidates besides those of the walk: due and woken records, and successors of members.
    pub(super) waiting: BTreeSet<u64>,
    /// Due times of the due records in `waiting`.
    pub(super) due: HashMap<u64, u64>,
    /// Records in `waiting` that later claims need not examine until they are woken.
    pub(super) deferrals: Vec<DeferredRecord>,
    pub(super) examined: usize,
}

pub(super) enum DeferredRecord {
    /// A predecessor in its lane blocks it.
    Blocked { lane: Lane, position: u64, id: u128, due: Option<u64> },
    /// It is in a lane and cannot be read.
    Unreadable { lane: Lane, position: u64 },
    /// Another lane has its key, and a record of that lane is in the draft: it can go in the next batch.
    SameKey { position: u64 },
    /// It cannot be sent. Its row in `retry`, if any, must go, or it would be due forever.
    Unsendable { position: u64, due: Option<u64> },
}

#[derive(PartialEq)]
pub(super) enum DraftStep {
    Done,
    /// The batch is full.
    Full,
}

impl<'o> BatchDraft<'o> {
    pub(super) fn new(order: &'o ClaimOrder, cursors: Cursors, waiting: BTreeSet<u64>) -> Self {
        Self {
            order,
            filling: order.limit.start_filling(),
            members: Vec::new(),
            positions: BTreeSet::new(),
            lanes: HashMap::new(),
            keys: HashSet::new(),
            cursors,
            waiting,
            due: HashMap::new(),
            deferrals: Vec::new(),
            examined: 0,
        }
    }

    /// Adds the record if it fits.
    pub(super) fn add_candidate(&mut self, candidate: Candidate) -> bool {
        let fits = self.filling.admit_record(&candidate.record_type, u64::from(candidate.row.bytes));
        if fits {
            self.positions.insert(candidate.row.position);
            if let Some(lane) = &candidate.lane {
                let (seq, one_per_key) = (seq_of(candidate.row.position), self.order.one_per_key);
                let progress = self.lane_progress(lane);
                let is_first = progress.next == 0;
                progress.next = seq + 1;
                if one_per_key {
                    progress.blocked_at = Some(seq);
                }
                if is_first {
                    self.keys.insert(lane.key().to_owned());
                }
            }
            self.members.push(candidate);
        }
        fits
    }

    /// Whether the batch may not have a record of this lane because it has one of another lane with the same key: the
    /// server keeps the order of a key across users, and one user's record would hold another's.
    pub(super) fn has_key_elsewhere(&self, lane: &Lane) -> bool {
        self.keys.contains(lane.key()) && self.lanes.get(lane).is_none_or(|progress| progress.next == 0)
    }

    /// Passes over a record because of [`Self::has_key_elsewhere`]. The next claim examines it, unless an earlier
    /// record of its lane takes it along.
    pub(super) fn pass_over(&mut self, lane: &Lane, position: u64) {
        let seq = seq_of(position);
        let progress = self.lane_progress(lane);
        if progress.passed_over_at.is_none_or(|first| seq < first) {
            progress.passed_over_at = Some(seq);
            self.deferrals.push(DeferredRecord::SameKey { position });
        }
    }

    pub(super) fn lane_progress(&mut self, lane: &Lane) -> &mut LaneProgress {
        self.lanes.entry(lane.clone()).or_default()
    }

    /// The members in queue order, except that records of one lane are in order of arrival.
    pub(super) fn into_send_order(mut self) -> (Vec<MemberRow>, Vec<Candidate>) {
        self.members.sort_by_key(|member| member.row.position);
        let mut lanes: HashMap<&Lane, Vec<u64>> = HashMap::new();
        for member in &self.members {
            if let Some(lane) = &member.lane {
                lanes.entry(lane).or_default().push(member.row.position);
            }
        }
        for positions in lanes.values_mut() {
            positions.sort_by_key(|position| Reverse(seq_of(*position)));
        }
        let by_position: HashMap<u64, &MemberRow> =
            self.members.iter().map(|member| (member.row.position, &member.row)).collect();
        let rows = self.members.iter().map(|member| {
            let own = member.lane.as_ref().and_then(|lane| lanes.get_mut(lane)).and_then(Vec::pop);
            own.and_then(|position| by_position.get(&position).copied()).unwrap_or(&member.row).clone()
        });
        let rows = rows.collect();
        (rows, self.members)
    }
}
