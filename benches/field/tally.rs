//! Counts the requests and results of a run.

use std::collections::HashMap;
use std::time::Duration;

use crate::flight::FIRST_REQUESTS;
use crate::server_spec::Outage;

#[derive(Default)]
pub(crate) struct Tally {
    /// 504s.
    pub(crate) timed_out: u32,
    /// 429s.
    pub(crate) throttled: u32,
    /// Those after the first requests.
    pub(crate) throttled_later: u32,
    /// Records that were sent in two requests at once.
    pub(crate) doubled: u32,
    /// How many batches the client sends at once at most.
    pub(crate) window: usize,
    pub(crate) window_changes: u32,
    /// The durations of all requests with batches.
    pub(crate) under_way: Duration,
    /// Batches that failed at the server because of a record in them.
    pub(crate) faulty_posts: u32,
    pub(crate) posts: u32,
    pub(crate) look_ups: u32,
    pub(crate) posts_in_outage: u32,
    pub(crate) look_ups_in_outage: u32,
    pub(crate) first_sent: HashMap<usize, Duration>,
    pub(crate) sent_in_vain: u32,
    /// Records that were sent although the server had them.
    pub(crate) had_already: u32,
    pub(crate) sizes: Vec<f64>,
    pub(crate) recovered: Option<Duration>,
}

impl Tally {
    pub(crate) fn posted(
        &mut self,
        now: Duration,
        members: &[usize],
        has: impl Fn(usize) -> bool,
        outage: Option<&Outage>,
    ) {
        self.posts += 1;
        self.posts_in_outage += u32::from(outage.is_some());
        for member in members {
            self.had_already += u32::from(has(*member));
            self.sent_in_vain += u32::from(self.first_sent.contains_key(member));
            self.first_sent.entry(*member).or_insert(now);
        }
    }

    pub(crate) fn ended(&mut self, elapsed: Duration, status: Option<u16>) {
        self.under_way += elapsed;
        self.timed_out += u32::from(status == Some(504));
        self.throttled += u32::from(status == Some(429));
        self.throttled_later += u32::from(status == Some(429) && self.posts > FIRST_REQUESTS);
    }

    pub(crate) fn looked_up(&mut self, outage: Option<&Outage>) {
        self.look_ups += 1;
        self.look_ups_in_outage += u32::from(outage.is_some());
    }

    pub(crate) fn succeeded(&mut self, now: Duration, members: usize, outages: &[Outage]) {
        self.sizes.push(members as f64);
        if let Some(outage) = outages.first().filter(|outage| outage.until <= now) {
            self.recovered.get_or_insert(now.saturating_sub(outage.until));
        }
    }
}
