//! How many batches a server works on at once, and what each gains or loses by the others.

use std::f64::consts::TAU;
use std::time::Duration;

#[derive(Clone, Debug)]
pub(crate) struct Capacity {
    /// Batches that the server works on; others wait for a worker. None: one for each batch.
    pub(crate) workers: Option<usize>,
    /// From then on, so many.
    pub(crate) later: Option<(Duration, usize)>,
    pub(crate) sharing: Sharing,
    pub(crate) others: Option<Others>,
    pub(crate) at_once: Option<AtOnce>,
}

/// How fast each of several batches is worked on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sharing {
    /// As fast as alone.
    Independent,
    /// They share this many processors.
    Processors(f64),
    /// Each further batch slows all of them down by this share.
    Slowing(f64),
    /// They share this many processors, and each batch beyond them costs this share of the whole.
    Thrashing(f64, f64),
}

/// Batches of other users, each on a worker. Their number goes up and down.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Others {
    /// The mean number of workers that they keep busy at most.
    pub(crate) busy_most: f64,
    /// The mean time of a batch, in seconds.
    pub(crate) seconds: f64,
    /// The time from one peak to the next.
    pub(crate) period: Duration,
}

/// The server refuses further batches with a 429.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AtOnce {
    pub(crate) batches: usize,
    /// Smaller batches do not count, and are never refused.
    pub(crate) records_above: usize,
    pub(crate) retry_after: Duration,
}

impl Capacity {
    /// A worker for every batch, as if each were alone.
    pub(crate) const UNLIMITED: Self =
        Self { workers: None, later: None, sharing: Sharing::Independent, others: None, at_once: None };

    pub(crate) fn workers(count: usize) -> Self {
        Self { workers: Some(count), ..Self::UNLIMITED }
    }

    pub(crate) fn shared(sharing: Sharing) -> Self {
        Self { sharing, ..Self::UNLIMITED }
    }

    pub(crate) fn workers_at(&self, now: Duration) -> usize {
        let later = self.later.filter(|(from, _)| *from <= now).map(|(_, count)| count);
        later.or(self.workers).unwrap_or(usize::MAX)
    }

    /// How much longer each of so many batches takes, with the wait for a worker.
    pub(crate) fn slowdown(&self, now: Duration, batches: usize) -> f64 {
        let working = batches.min(self.workers_at(now));
        let waiting = batches as f64 / working as f64;
        waiting / self.sharing.speed(working)
    }
}

impl Sharing {
    /// The progress of each of so many batches, in seconds of work per second.
    pub(crate) fn speed(self, working: usize) -> f64 {
        let working = working as f64;
        match self {
            Self::Independent => 1.0,
            Self::Processors(count) => (count / working).min(1.0),
            Self::Slowing(share) => 1.0 / (1.0 + share * (working - 1.0).max(0.0)),
            Self::Thrashing(count, share) => {
                (count / working).min(1.0) / (1.0 + share * (working - count).max(0.0))
            }
        }
    }
}

impl Others {
    /// The share of the most that they keep busy now.
    pub(crate) fn wave(self, now: Duration) -> f64 {
        let phase = TAU * now.as_secs_f64() / self.period.as_secs_f64();
        (1.0 - phase.cos()) / 2.0
    }
}
