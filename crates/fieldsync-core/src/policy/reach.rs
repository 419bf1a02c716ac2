//! Whether the server can be reached, decided from the results of requests and from the routes that the system reports.
//!
//! Requests are better evidence than routes: a response proves that the server can be reached. If there is no route,
//! nothing is sent and no timer runs until there is one. If there is a route but requests fail, probes are sent at
//! growing intervals. Some of them are replaced by a batch, because a middlebox may block only the probes.
//!
//! A link that came up is tried at once, after a random delay that keeps the devices of a fleet from connecting at the
//! same time. If it comes up repeatedly without reaching the server, it is tried at growing intervals, up to the
//! longest probe interval.

use std::time::Duration;

use super::backoff;
use crate::model::{LinkState, Uplink};

/// The first wait for a link that came up before without reaching the server.
const REOPEN_DELAY_MIN: Duration = Duration::from_millis(100);

/// Every n-th probe is a batch.
const PROBES_PER_BATCH: u32 = 8;

/// What the result of a request shows about the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The server responded.
    ServerResponded,
    /// Nothing could be sent.
    Unreachable,
    /// Something other than the server responded, for example a captive portal.
    Intercepted,
}

/// The attempt that a timer will start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum PlannedAttempt {
    #[default]
    Nothing,
    Probe,
    /// A batch instead of a probe.
    Batch,
    /// The link came up and is tried.
    Reopen,
}

/// What the caller does next. It replaces the attempt that was planned before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkAction {
    /// The planned attempt stays.
    KeepPlan,
    /// Nothing, until a request or an event of the system changes something.
    Idle,
    /// Send a probe after this wait.
    Probe(Duration),
    /// Call [`Reach::reopen`] after this wait.
    Reopen(Duration),
}

/// The waits between attempts.
#[derive(Clone, Copy, Debug)]
pub struct ProbeIntervals {
    /// The first wait between two probes.
    pub first: Duration,
    /// The longest wait between two probes.
    pub longest: Duration,
    /// The longest random wait after a link came up.
    pub reopen_jitter: Duration,
}

/// The present belief about the link, and the planned attempt.
#[derive(Debug, Default)]
pub struct Reach {
    state: LinkState,
    uplink: Uplink,
    reopenings: u64,
    path_changes: u64,
    address_changes: u64,
    /// Probes, and reopenings of the link, in a row without a response of the server.
    probes: u32,
    failed_reopenings: u32,
    planned: PlannedAttempt,
    /// Responses arrived although the system reports no route: its reports are ignored until it sees one.
    ignores_uplink: bool,
}

impl Reach {
    /// Whether the server can be reached, as far as is known.
    pub fn state(&self) -> LinkState {
        self.state
    }

    /// Whether the system has a route to the server; none if that is not known.
    pub fn has_route(&self) -> Option<bool> {
        match self.uplink {
            Uplink::Unknown => None,
            Uplink::Down => Some(false),
            Uplink::Up(_) => Some(true),
        }
    }

    /// How often the link came up again: what waited for the link may continue.
    pub fn reopenings(&self) -> u64 {
        self.reopenings
    }

    /// How often the network path changed so that earlier connections are useless.
    pub fn path_changes(&self) -> u64 {
        self.path_changes
    }

    /// How often a local address disappeared: connections from it are useless.
    pub fn address_changes(&self) -> u64 {
        self.address_changes
    }

    /// Whether nothing may be sent.
    pub fn is_closed(&self) -> bool {
        self.state.is_closed()
    }

    /// A request showed something about the link. `waiting`: whether there are records to send.
    pub fn record_evidence(
        &mut self,
        evidence: Evidence,
        waiting: bool,
        intervals: &ProbeIntervals,
        rng: &mut fastrand::Rng,
    ) -> LinkAction {
        self.state = match evidence {
            Evidence::ServerResponded => {
                self.reopenings += u64::from(self.is_closed());
                if self.uplink == Uplink::Down {
                    (self.uplink, self.ignores_uplink) = (Uplink::Unknown, true);
                }
                (self.probes, self.failed_reopenings) = (0, 0);
                self.state = LinkState::Online;
                return self.cancel_plan();
            }
            Evidence::Unreachable => LinkState::Offline,
            Evidence::Intercepted => LinkState::CaptivePortal,
        };
        self.ignores_uplink = false;
        if self.planned != PlannedAttempt::Nothing && self.uplink != Uplink::Down {
            LinkAction::KeepPlan
        } else {
            self.plan_probe(waiting, intervals, rng)
        }
    }

    /// Records wait to be sent, and none did before.
    pub fn on_records_waiting(&mut self, intervals: &ProbeIntervals, rng: &mut fastrand::Rng) -> LinkAction {
        if self.is_closed() && self.planned == PlannedAttempt::Nothing {
            self.plan_probe(true, intervals, rng)
        } else {
            LinkAction::KeepPlan
        }
    }

    /// The present route was read.
    pub fn update_uplink(
        &mut self,
        way: Uplink,
        intervals: &ProbeIntervals,
        rng: &mut fastrand::Rng,
    ) -> LinkAction {
        self.ignores_uplink &= way == Uplink::Down;
        let way = if self.ignores_uplink { Uplink::Unknown } else { way };
        let before = std::mem::replace(&mut self.uplink, way);
        match (&before, &self.uplink) {
            (Uplink::Down, Uplink::Down) => LinkAction::KeepPlan,
            (_, Uplink::Down) => {
                self.state = LinkState::Offline;
                self.cancel_plan()
            }
            // If routes are not watched any more, the last report that there is none does not count.
            (Uplink::Down, Uplink::Up(_) | Uplink::Unknown) => self.plan_reopening(intervals, rng),
            (Uplink::Up(old), Uplink::Up(new)) if !old.is_subset(new) => {
                self.address_changes += 1;
                if self.is_closed() { self.plan_reopening(intervals, rng) } else { LinkAction::KeepPlan }
            }
            (Uplink::Up(_) | Uplink::Unknown, Uplink::Up(_) | Uplink::Unknown) => LinkAction::KeepPlan,
        }
    }

    /// An address or a route appeared or disappeared, which may make the server reachable.
    pub fn on_link_changed(&mut self, intervals: &ProbeIntervals, rng: &mut fastrand::Rng) -> LinkAction {
        let hopeful = self.is_closed() && matches!(self.uplink, Uplink::Up(_));
        if hopeful { self.plan_reopening(intervals, rng) } else { LinkAction::KeepPlan }
    }

    /// There was no route for longer than connections survive.
    pub fn invalidate_connections(&mut self) {
        self.path_changes += u64::from(self.uplink == Uplink::Down);
    }

    /// The device slept, and may have woken up in another network.
    pub fn on_wake_up(&mut self, intervals: &ProbeIntervals, rng: &mut fastrand::Rng) -> LinkAction {
        self.path_changes += 1;
        if self.is_closed() {
            return self.on_link_changed(intervals, rng);
        }
        self.reopenings += 1;
        LinkAction::KeepPlan
    }

    /// The wait after the link came up is over: requests may be sent.
    pub fn reopen(&mut self) {
        let planned = std::mem::take(&mut self.planned);
        if self.is_closed() {
            self.state = LinkState::Unknown;
            self.reopenings += 1;
            self.failed_reopenings =
                self.failed_reopenings.saturating_add(u32::from(planned == PlannedAttempt::Reopen));
        }
    }

    /// A person asked to try now.
    pub fn try_now(&mut self) -> LinkAction {
        (self.probes, self.failed_reopenings) = (0, 0);
        if !self.is_closed() {
            return LinkAction::KeepPlan;
        }
        self.planned = PlannedAttempt::Probe;
        LinkAction::Probe(Duration::ZERO)
    }

    /// A probe ended. What it showed, if anything, is reported separately.
    pub fn finish_probe(&mut self) {
        self.planned = PlannedAttempt::Nothing;
    }

    fn plan_reopening(&mut self, intervals: &ProbeIntervals, rng: &mut fastrand::Rng) -> LinkAction {
        if self.planned == PlannedAttempt::Reopen {
            // Further events do not postpone the planned attempt.
            return LinkAction::KeepPlan;
        }
        self.probes = 0;
        let rest = match self.failed_reopenings {
            0 => Duration::ZERO,
            times => {
                backoff::backoff_delay(REOPEN_DELAY_MIN.min(intervals.longest), intervals.longest, times, rng)
            }
        };
        self.planned = PlannedAttempt::Reopen;
        LinkAction::Reopen(rest + backoff::uniform_between(Duration::ZERO, intervals.reopen_jitter, rng))
    }

    fn plan_probe(
        &mut self,
        waiting: bool,
        intervals: &ProbeIntervals,
        rng: &mut fastrand::Rng,
    ) -> LinkAction {
        if !waiting || self.uplink == Uplink::Down {
            return self.cancel_plan();
        }
        self.probes = self.probes.saturating_add(1);
        let wait = backoff::backoff_delay(
            intervals.first.min(intervals.longest),
            intervals.longest,
            self.probes,
            rng,
        );
        let is_batch = self.probes.is_multiple_of(PROBES_PER_BATCH);
        self.planned = if is_batch { PlannedAttempt::Batch } else { PlannedAttempt::Probe };
        if is_batch { LinkAction::Reopen(wait) } else { LinkAction::Probe(wait) }
    }

    fn cancel_plan(&mut self) -> LinkAction {
        self.planned = PlannedAttempt::Nothing;
        LinkAction::Idle
    }
}

#[cfg(test)]
mod tests;
