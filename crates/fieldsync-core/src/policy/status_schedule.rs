//! When a device reports its status to its server: at the end of a run, and at least once in `fleet.heartbeat` while
//! there is a link that costs nothing. While an administrator has paused sending, nothing is reported.
//!
//! Over a link that costs something, there are no heartbeats, and the end of a run is reported only right after a
//! response, so that the report wakes no radio, and seldom, because a report may be as large as a batch. Over a free link
//! the end of a run is reported at most once a minute, also later than its responses. Each wait is shortened by a random
//! part of a tenth, and after an outage heartbeats that are overdue are spread, so that the devices of a fleet do not
//! report at the same time.

use std::time::Duration;

use crate::protocol::exchange::{RequestResult, ResponseBody};

/// A radio stays up for at least as long after a response, so a report costs no wake-up of its own.
const CONTACT_TAIL: Duration = Duration::from_secs(5);
/// Two reports are at least this far apart, however many short runs end.
const REPORT_INTERVAL_MIN: Duration = Duration::from_mins(1);
/// The same over a link that costs something: a device with a record now and then must not pay for a report each time.
const COSTLY_INTERVAL_MIN: Duration = Duration::from_hours(1);
/// The first wait after a report that failed; it doubles with each further failure, up to the heartbeat.
const FAILURE_WAIT_MIN: Duration = Duration::from_mins(1);
/// Overdue heartbeats are spread over at most this time once the link is back.
const RETURN_SPREAD_MAX: Duration = Duration::from_mins(1);
/// The random part of the time between two heartbeats.
const RANDOM_SHARE: f64 = 0.1;

/// What a report may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportLink {
    /// Nothing: there is no network, a login page responds, or sending is paused.
    Unavailable,
    /// A link that costs something: only a report that follows a response goes over it.
    Costly,
    /// A link that costs nothing.
    Free,
}

/// What the decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct ReportFacts {
    /// Steady time.
    pub now: Duration,
    /// The longest time between two reports; zero for no reports.
    pub heartbeat: Duration,
    /// How often the server responded to a batch since the start.
    pub contacts: u64,
    /// Whether a batch is under way or follows at once.
    pub is_run_under_way: bool,
    /// What a report may use.
    pub link: ReportLink,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportStep {
    /// Report now.
    Report,
    /// Decide again at this steady time, or when a fact changes.
    WaitUntil(Duration),
    /// Decide again when a fact changes.
    WaitForChange,
}

/// How the server took a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportReply {
    /// It has the report.
    Taken,
    /// It takes no reports.
    Unwanted,
    /// Nothing is known; perhaps the server asks to wait.
    Failed {
        /// How long the server asks to wait.
        retry_after: Option<Duration>,
    },
}

impl ReportReply {
    /// What the result of the request means.
    pub fn from_result(result: &RequestResult) -> Self {
        let RequestResult::Response(response) = result else { return Self::Failed { retry_after: None } };
        match response.status {
            // A login page responds with HTML to everything.
            200..=299 if !matches!(response.body, ResponseBody::NotJson) => Self::Taken,
            404 | 405 => Self::Unwanted,
            _ => Self::Failed { retry_after: response.retry_after },
        }
    }
}

/// When the next report is due.
#[derive(Debug, Default)]
pub struct StatusSchedule {
    /// None until the first decision.
    heartbeat_at: Option<Duration>,
    /// The contacts that were seen, and when there was a new one.
    contacts: u64,
    contact_at: Option<Duration>,
    /// The contacts that the last report covers.
    reported_contacts: u64,
    last_report_at: Option<Duration>,
    not_before: Duration,
    failures: u32,
    is_unwanted: bool,
    was_unavailable: bool,
}

impl StatusSchedule {
    /// Decides what to do next. `random` is between 0 and 1.
    pub fn decide(&mut self, facts: &ReportFacts, random: f64) -> ReportStep {
        let &ReportFacts { now, heartbeat, link, .. } = facts;
        if facts.contacts > self.contacts {
            (self.contacts, self.contact_at) = (facts.contacts, Some(now));
        }
        if heartbeat.is_zero() || self.is_unwanted {
            return ReportStep::WaitForChange;
        }
        let spread = heartbeat.mul_f64(RANDOM_SHARE);
        let heartbeat_at = self.heartbeat_at.get_or_insert(now + spread.mul_f64(random));
        if link == ReportLink::Unavailable {
            self.was_unavailable = true;
            return ReportStep::WaitForChange;
        }
        if std::mem::take(&mut self.was_unavailable) && *heartbeat_at <= now {
            *heartbeat_at = now + spread.min(RETURN_SPREAD_MAX).mul_f64(random);
        }
        let heartbeat_at = *heartbeat_at;
        let interval = if link == ReportLink::Free { REPORT_INTERVAL_MIN } else { COSTLY_INTERVAL_MIN };
        let run_end_at = (!facts.is_run_under_way && self.reported_contacts < self.contacts)
            .then(|| self.last_report_at.map_or(now, |last| last + interval.min(heartbeat)).max(now));
        let due_at = match link {
            ReportLink::Free => Some(run_end_at.map_or(heartbeat_at, |at| at.min(heartbeat_at))),
            _ => run_end_at.filter(|at| *at <= now && self.is_in_contact(now)),
        };
        match due_at.map(|at| at.max(self.not_before)) {
            Some(at) if at <= now => ReportStep::Report,
            Some(at) if link == ReportLink::Free => ReportStep::WaitUntil(at),
            _ => ReportStep::WaitForChange,
        }
    }

    /// Notes what became of a report that was made from these facts. `now` is after the reply.
    pub fn record_reply(&mut self, facts: &ReportFacts, reply: ReportReply, now: Duration, random: f64) {
        let shortened = facts.heartbeat.mul_f64(1.0 - RANDOM_SHARE * random);
        match reply {
            ReportReply::Taken => {
                self.failures = 0;
                self.last_report_at = Some(facts.now);
                self.reported_contacts = facts.contacts;
                self.heartbeat_at = Some(facts.now + shortened);
            }
            ReportReply::Unwanted => self.is_unwanted = true,
            ReportReply::Failed { retry_after } => {
                let doubled = FAILURE_WAIT_MIN.saturating_mul(1 << self.failures.min(16));
                self.failures += 1;
                let wait = doubled.max(retry_after.unwrap_or_default()).min(facts.heartbeat);
                self.not_before = now + wait.mul_f64(1.0 + RANDOM_SHARE * random);
            }
        }
    }

    /// Forgets what the server said: another configuration is in effect.
    pub fn reset(&mut self) {
        let Self { contacts, contact_at, reported_contacts, .. } = *self;
        *self = Self { contacts, contact_at, reported_contacts, ..Self::default() };
    }

    fn is_in_contact(&self, now: Duration) -> bool {
        self.contact_at.is_some_and(|at| now.saturating_sub(at) <= CONTACT_TAIL)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::exchange::{Delivery, RequestFailure, Response};

    const HOUR: Duration = Duration::from_hours(1);

    fn facts(seconds: u64, contacts: u64, link: ReportLink) -> ReportFacts {
        ReportFacts {
            now: Duration::from_secs(seconds),
            heartbeat: 6 * HOUR,
            contacts,
            is_run_under_way: false,
            link,
        }
    }

    /// A schedule that reported at this time.
    fn reported_at(seconds: u64, contacts: u64) -> StatusSchedule {
        let mut schedule = StatusSchedule::default();
        let facts = facts(seconds, contacts, ReportLink::Free);
        schedule.decide(&facts, 0.0);
        schedule.record_reply(&facts, ReportReply::Taken, facts.now, 0.0);
        schedule
    }

    #[test]
    fn the_end_of_a_run_is_reported_once() {
        let mut schedule = reported_at(0, 0);
        let run = ReportFacts { is_run_under_way: true, ..facts(4000, 3, ReportLink::Costly) };
        assert_eq!(schedule.decide(&run, 0.0), ReportStep::WaitForChange);
        let ended = facts(4002, 4, ReportLink::Costly);
        assert_eq!(schedule.decide(&ended, 0.0), ReportStep::Report);
        schedule.record_reply(&ended, ReportReply::Taken, ended.now, 0.0);
        assert_eq!(schedule.decide(&ended, 0.0), ReportStep::WaitForChange);
    }

    #[test]
    fn many_short_runs_lead_to_one_report_a_minute_and_the_last_of_them_is_reported() {
        let mut schedule = reported_at(100, 1);
        let again = facts(110, 2, ReportLink::Free);
        let due = Duration::from_secs(160);
        assert_eq!(schedule.decide(&again, 0.0), ReportStep::WaitUntil(due));
        assert_eq!(schedule.decide(&facts(160, 2, ReportLink::Free), 0.0), ReportStep::Report);
    }

    #[test]
    fn over_a_link_that_costs_something_a_report_follows_a_response_and_the_former_report_by_an_hour() {
        let mut schedule = reported_at(100, 1);
        let costly = |seconds, contacts| facts(seconds, contacts, ReportLink::Costly);
        for (seconds, contacts) in [(161, 2), (3600, 3), (3699, 4)] {
            assert_eq!(schedule.decide(&costly(seconds, contacts), 0.0), ReportStep::WaitForChange);
        }
        assert_eq!(schedule.decide(&costly(3704, 4), 0.0), ReportStep::Report);
        // The last response is too long ago.
        assert_eq!(schedule.decide(&costly(3705, 4), 0.0), ReportStep::WaitForChange);
        assert_eq!(schedule.decide(&costly(5000, 5), 0.0), ReportStep::Report);
    }

    #[test]
    fn a_heartbeat_goes_only_over_a_free_link_and_also_during_a_run() {
        let mut schedule = reported_at(0, 0);
        let due = 6 * 3600;
        for link in [ReportLink::Unavailable, ReportLink::Costly] {
            assert_eq!(schedule.decide(&facts(due, 0, link), 0.0), ReportStep::WaitForChange);
        }
        let run = ReportFacts { is_run_under_way: true, ..facts(due, 9, ReportLink::Free) };
        assert_eq!(schedule.decide(&run, 0.0), ReportStep::Report);
    }

    #[test]
    fn overdue_heartbeats_are_spread_once_the_link_is_back() {
        for random in [0.0, 0.5, 1.0] {
            let mut schedule = reported_at(0, 0);
            schedule.decide(&facts(7 * 3600, 0, ReportLink::Unavailable), random);
            let step = schedule.decide(&facts(8 * 3600, 0, ReportLink::Free), random);
            let at = 8 * HOUR + Duration::from_mins(1).mul_f64(random);
            let expected = if random == 0.0 { ReportStep::Report } else { ReportStep::WaitUntil(at) };
            assert_eq!(step, expected);
        }
    }

    #[test]
    fn a_server_that_takes_no_reports_is_asked_again_only_with_another_configuration() {
        let mut schedule = StatusSchedule::default();
        let first = facts(0, 0, ReportLink::Free);
        schedule.record_reply(&first, ReportReply::Unwanted, first.now, 0.0);
        assert_eq!(schedule.decide(&facts(1 << 20, 5, ReportLink::Free), 0.0), ReportStep::WaitForChange);
        schedule.reset();
        assert_eq!(schedule.decide(&facts(1 << 20, 5, ReportLink::Free), 0.0), ReportStep::Report);
    }

    #[test]
    fn failed_reports_are_repeated_at_growing_intervals_and_not_earlier_than_the_server_asks() {
        let mut schedule = StatusSchedule::default();
        let mut now = facts(0, 0, ReportLink::Free);
        let mut waits = Vec::new();
        for retry_after in [None, None, Some(HOUR), None, Some(24 * HOUR)] {
            assert_eq!(schedule.decide(&now, 0.0), ReportStep::Report);
            schedule.record_reply(&now, ReportReply::Failed { retry_after }, now.now, 0.0);
            let ReportStep::WaitUntil(at) = schedule.decide(&now, 0.0) else { panic!("no wait") };
            waits.push(at.saturating_sub(now.now).as_secs());
            now.now = at;
        }
        assert_eq!(waits, [60, 120, 3600, 480, 6 * 3600]);
    }

    #[test]
    fn zero_turns_reports_off() {
        let off = ReportFacts { heartbeat: Duration::ZERO, ..facts(1 << 20, 5, ReportLink::Free) };
        assert_eq!(StatusSchedule::default().decide(&off, 0.5), ReportStep::WaitForChange);
    }

    #[test]
    fn replies_are_told_apart() {
        let response =
            |status, body| RequestResult::Response(Response { status, retry_after: Some(HOUR), body });
        let failed = |retry_after| ReportReply::Failed { retry_after };
        let lost = RequestFailure::new(Delivery::Sent, "lost");
        for (result, reply) in [
            (response(204, ResponseBody::Empty), ReportReply::Taken),
            (response(200, ResponseBody::OtherJson), ReportReply::Taken),
            (response(200, ResponseBody::NotJson), failed(Some(HOUR))),
            (response(404, ResponseBody::NotJson), ReportReply::Unwanted),
            (response(405, ResponseBody::Empty), ReportReply::Unwanted),
            (response(429, ResponseBody::Empty), failed(Some(HOUR))),
            (RequestResult::Failure(lost), failed(None)),
        ] {
            assert_eq!(ReportReply::from_result(&result), reply);
        }
    }

    proptest! {
        /// With a free link and a server that responds, no pause is longer than the heartbeat.
        #[test]
        fn a_heartbeat_is_never_late(
            heartbeat_s in 1..100_000_u64,
            steps in proptest::collection::vec((0.0..=1.0, 0..3_u64, any::<bool>()), 1..50),
        ) {
            let mut schedule = StatusSchedule::default();
            let (mut now, mut last, mut contacts) = (Duration::ZERO, Duration::ZERO, 0);
            let heartbeat = Duration::from_secs(heartbeat_s);
            for (random, responses, is_run_under_way) in steps {
                contacts += responses;
                let facts = ReportFacts { now, heartbeat, contacts, is_run_under_way, link: ReportLink::Free };
                match schedule.decide(&facts, random) {
                    ReportStep::Report => {
                        schedule.record_reply(&facts, ReportReply::Taken, now, random);
                        last = now;
                    }
                    ReportStep::WaitUntil(at) => {
                        prop_assert!(at > now && at <= last + heartbeat);
                        now = at;
                    }
                    ReportStep::WaitForChange => prop_assert!(false, "nothing would wake it"),
                }
            }
        }
    }
}
