//! The workers of a server: batches that are worked on, and those that wait for a worker.

use std::collections::VecDeque;
use std::time::Duration;

use fieldsync::model::BatchId;

use crate::capacity::Sharing;

/// What a worker works on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Work {
    Batch(BatchId),
    /// A batch of another user, with its seconds.
    Other(f64),
}

#[derive(Debug)]
struct Working {
    work: Work,
    /// Seconds of work that are left.
    left: f64,
    done: Duration,
}

#[derive(Debug)]
pub(crate) struct Workers {
    sharing: Sharing,
    count: usize,
    waiting: VecDeque<Work>,
    working: Vec<Working>,
    /// When `left` was computed.
    as_of: Duration,
}

impl Workers {
    pub(crate) fn new(sharing: Sharing, count: usize) -> Self {
        Self { sharing, count, waiting: VecDeque::new(), working: Vec::new(), as_of: Duration::ZERO }
    }

    pub(crate) fn set_count(&mut self, count: usize) {
        self.count = count;
    }

    pub(crate) fn queue(&mut self, work: Work) {
        self.waiting.push_back(work);
    }

    /// The next work for a free worker.
    pub(crate) fn take_waiting(&mut self) -> Option<Work> {
        if self.working.len() < self.count { self.waiting.pop_front() } else { None }
    }

    /// Starts work of so many seconds.
    pub(crate) fn start(&mut self, now: Duration, work: Work, seconds: f64) {
        self.make_progress(now);
        self.working.push(Working { work, left: seconds, done: now + Duration::from_secs_f64(seconds) });
        self.plan(now);
    }

    /// Ends the work that is done.
    pub(crate) fn take_done(&mut self, now: Duration) -> Vec<Work> {
        self.make_progress(now);
        let done = self.working.extract_if(.., |working| working.done <= now).map(|working| working.work);
        let done = done.collect();
        self.plan(now);
        done
    }

    pub(crate) fn next_done(&self) -> Option<Duration> {
        self.working.iter().map(|working| working.done).min()
    }

    fn make_progress(&mut self, now: Duration) {
        let progress = now.saturating_sub(self.as_of).as_secs_f64() * self.sharing.speed(self.working.len());
        for working in &mut self.working {
            working.left -= progress;
        }
        self.as_of = now;
    }

    fn plan(&mut self, now: Duration) {
        if self.sharing == Sharing::Independent {
            return;
        }
        let speed = self.sharing.speed(self.working.len());
        for working in self.working.iter_mut().filter(|working| working.done > now) {
            working.done = now + Duration::from_secs_f64(working.left.max(0.0) / speed);
        }
    }
}
