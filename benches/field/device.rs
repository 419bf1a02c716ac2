//! A client's device: the records that its client has not taken yet, its link, and the counts of its requests.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use crate::link::{Link, Up};
use crate::tally::Tally;

pub(crate) struct Device {
    /// Its records, by their positions in the world.
    pub(crate) members: Range<usize>,
    pub(crate) link: Link,
    pub(crate) tally: Tally,
    /// Records that the client has not taken yet.
    pub(super) waiting: BTreeSet<usize>,
    pub(super) next_arrival: usize,
    pub(super) open_records: usize,
    pub(super) open_bytes: u64,
    /// When the client is to be woken; only with the latest ticket.
    pub(super) wake_ticket: u64,
    /// When the bodies under way are sent: the next one comes after them.
    uplink_free: Duration,
}

impl Device {
    pub(crate) fn new(members: Range<usize>, link: Link) -> Self {
        Self {
            tally: Tally::default(),
            waiting: BTreeSet::new(),
            next_arrival: members.start,
            open_records: 0,
            open_bytes: 0,
            wake_ticket: 0,
            uplink_free: Duration::ZERO,
            members,
            link,
        }
    }

    /// Nothing is left to do, now or later.
    pub(crate) fn is_done(&self) -> bool {
        self.open_records == 0 && self.next_arrival == self.members.end
    }

    /// Records that are neither synced nor quarantined, and their bytes.
    pub(crate) fn open_totals(&self) -> (usize, u64) {
        (self.open_records, self.open_bytes)
    }

    pub(crate) fn waiting(&self) -> &BTreeSet<usize> {
        &self.waiting
    }

    /// Takes the first `count` records out of the queue.
    pub(crate) fn take_waiting(&mut self, count: usize) -> Vec<usize> {
        let members: Vec<usize> = self.waiting.iter().copied().take(count).collect();
        self.take_these(&members);
        members
    }

    pub(crate) fn take_these(&mut self, members: &[usize]) {
        for member in members {
            self.waiting.remove(member);
        }
    }

    pub(crate) fn put_back(&mut self, members: &[usize]) {
        self.waiting.extend(members);
    }

    /// Sends a body from `ready` on, after those under way. Returns when it is sent.
    pub(super) fn send_body(&mut self, up: Up, ready: Duration, bytes: u64) -> Duration {
        let sent = ready.max(self.uplink_free) + up.upload(bytes);
        self.uplink_free = sent.min(up.until);
        sent
    }
}
