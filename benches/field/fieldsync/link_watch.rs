//! What a device knows about its link, and what it waits for while the link is closed.

use std::time::Duration;

use fieldsync::model::LinkState;
use fieldsync::policy::reach::{Evidence, LinkAction, ProbeIntervals, Reach};

use crate::events::DeviceId;
use crate::world::World;

/// How soon a link behind a portal is tried again.
const PROBE_INTERVALS: ProbeIntervals = ProbeIntervals {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(15),
    reopen_jitter: Duration::from_millis(500),
};

/// What is due on a closed link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Due {
    /// The link is up again.
    LinkUp,
    /// A request is to show whether the link leads to the server.
    Probe,
    /// The link is used again.
    Reopen,
}

pub(super) struct LinkWatch {
    is_offline: bool,
    /// What requests show about the link, and the planned attempt.
    reach: Reach,
    planned: LinkAction,
    waiting: Option<(Duration, Due)>,
}

impl LinkWatch {
    pub(super) fn new() -> Self {
        Self { is_offline: false, reach: Reach::default(), planned: LinkAction::Idle, waiting: None }
    }

    pub(super) fn state(&self) -> LinkState {
        if self.is_offline { LinkState::Offline } else { self.reach.state() }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_offline || self.reach.is_closed()
    }

    /// A request ended. The system reports when the link goes down, so no attempt is needed to notice it.
    pub(super) fn request_ended(&mut self, world: &mut World, device: DeviceId) {
        self.is_offline |= !world.link_is_up(device);
    }

    pub(super) fn record_evidence(&mut self, evidence: Evidence, rng: &mut fastrand::Rng) {
        let next = self.reach.record_evidence(evidence, true, &PROBE_INTERVALS, rng);
        if next != LinkAction::KeepPlan {
            self.planned = next;
            self.waiting = None;
        }
    }

    /// When the closed link is tried next; none if nothing is planned.
    pub(super) fn next_try(&mut self, world: &mut World, device: DeviceId) -> Option<Duration> {
        if self.is_offline {
            let up = world.link_up(device);
            return Some(self.waiting.insert((up.from, Due::LinkUp)).0);
        }
        if self.waiting.is_none() {
            self.waiting = match std::mem::replace(&mut self.planned, LinkAction::Idle) {
                LinkAction::Probe(wait) => Some((world.now + wait, Due::Probe)),
                LinkAction::Reopen(wait) => Some((world.now + wait, Due::Reopen)),
                LinkAction::KeepPlan | LinkAction::Idle => None,
            };
        }
        self.waiting.map(|(due, _)| due)
    }

    /// What the device waited for, if the time came.
    pub(super) fn take_due(&mut self, now: Duration) -> Option<Due> {
        self.waiting.take_if(|(due, _)| *due <= now).map(|(_, due)| due)
    }

    /// The link is up again.
    pub(super) fn link_up(&mut self) {
        self.is_offline = false;
    }

    /// The link is used again. Returns whether it was not before.
    pub(super) fn reopen(&mut self) -> bool {
        let before = self.reach.reopenings();
        self.reach.reopen();
        self.reach.reopenings() != before
    }

    /// The server responded to a probe. Returns whether the link is used again.
    pub(super) fn probe_ended(&mut self, rng: &mut fastrand::Rng) -> bool {
        let before = self.reach.reopenings();
        self.reach.finish_probe();
        self.record_evidence(Evidence::ServerResponded, rng);
        self.reach.reopenings() != before
    }
}
