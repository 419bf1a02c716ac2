//! The window at servers of known behaviour: a measured batch takes `start_up + cost × records`, times a factor that
//! depends on the number under way.

use proptest::prelude::*;

use super::*;
use crate::policy::service_time::{Load, Measured};

const T: Duration = Duration::from_mins(1);
const TIME_BUDGET_SECONDS: f64 = 45.0;

fn load(records: usize) -> Load {
    let mut load = Load::default();
    for _ in 0..records {
        load.add_record("Visits", 300);
    }
    load
}

/// A device that always has as many batches under way as it may.
struct Device {
    window: InFlightWindow,
    service: Arc<ServiceTime>,
    max: usize,
    waiting_records: u64,
    start_up: f64,
    cost: f64,
    /// How many batches the server works on at full speed.
    workers: f64,
    now: Duration,
    rounds: usize,
    rng: fastrand::Rng,
}

impl Device {
    fn new(workers: f64) -> Self {
        Self {
            window: InFlightWindow::default(),
            service: Arc::default(),
            max: 4,
            waiting_records: 1_000_000,
            start_up: 1.0,
            cost: 1.0,
            workers,
            now: Duration::ZERO,
            rounds: 0,
            rng: fastrand::Rng::with_seed(3),
        }
    }

    fn with_prospects<T>(
        &mut self,
        decide: impl FnOnce(&mut InFlightWindow, &Prospects<'_>, &mut fastrand::Rng) -> T,
    ) -> T {
        let service = Arc::clone(&self.service);
        let size = |factor: f64| records_within(&service, factor);
        let prospects = Prospects {
            max: self.max,
            is_settled: true,
            waiting_records: self.waiting_records,
            time_budget: TIME_BUDGET_SECONDS,
            service: &self.service,
            batch_size: &size,
        };
        decide(&mut self.window, &prospects, &mut self.rng)
    }

    /// As many batches as may be under way are sent together, and the server responds to all of them.
    fn exchange_round(&mut self) {
        let limit = self.window.limit(self.max);
        let factor = self.window.load_factor(&self.service, self.max);
        let records = if self.service.has_enough_measurements() {
            records_within(&self.service, factor)
        } else {
            10 * (self.rounds + 1)
        };
        self.rounds += 1;
        let (sent_at, under_way) = (self.now, to_float(limit));
        let seconds = (self.start_up + self.cost * to_float(records)) * (under_way / self.workers).max(1.0);
        self.now += Duration::from_secs_f64(seconds);
        for _ in 0..limit {
            let elapsed = Duration::from_secs_f64(seconds);
            let sent = MeasuredBatch { sent_at, elapsed, under_way, load: load(records) };
            let measured = Measured { under_way, ..Measured::alone(elapsed) };
            Arc::make_mut(&mut self.service).record_response(&sent.load, measured, T);
            let now = self.now;
            self.with_prospects(|window, prospects, rng| {
                window.record_response(now, &sent, prospects, rng);
            });
        }
    }

    fn exchange_rounds(&mut self, rounds: usize) -> Vec<usize> {
        (0..rounds)
            .map(|_| {
                self.exchange_round();
                self.window.limit(self.max)
            })
            .collect()
    }

    fn rule(&mut self) -> InFlightRule {
        self.with_prospects(|window, prospects, _| window.rule(prospects))
    }
}

fn records_within(service: &ServiceTime, factor: f64) -> usize {
    let fits = |records: &usize| service.forecast_usual(*records as u64).mean * factor <= TIME_BUDGET_SECONDS;
    (1..1000).take_while(fits).last().unwrap_or(1)
}

#[test]
fn it_begins_with_one_and_reaches_what_the_server_works_on_in_parallel() {
    let mut device = Device::new(4.0);
    assert_eq!(device.window.limit(device.max), 1);
    assert_eq!(device.rule(), InFlightRule::FirstMeasurements);
    device.exchange_rounds(30);
    assert_eq!((device.window.size, device.rule()), (4, InFlightRule::Configured));
    device.max = 8;
    device.exchange_rounds(40);
    assert_eq!((device.window.size, device.rule()), (4, InFlightRule::Measured), "eight gain nothing");
}

#[test]
fn one_worker_is_left_alone_and_tried_less_and_less_often() {
    let mut device = Device::new(1.0);
    let limits = device.exchange_rounds(400);
    assert_eq!((device.window.size, device.rule()), (1, InFlightRule::Measured));
    let tried = limits.iter().filter(|limit| **limit > 1).count();
    assert!((2..30).contains(&tried), "{tried} of 400 rounds");
}

#[test]
fn a_server_that_lost_its_workers_is_noticed_within_a_term() {
    let mut device = Device::new(4.0);
    device.exchange_rounds(30);
    device.workers = 1.0;
    device.exchange_rounds(120);
    assert_eq!(device.window.size, 1);
}

#[test]
fn small_batches_are_not_made_smaller_for_the_sake_of_a_trial() {
    let mut device = Device::new(4.0);
    (device.start_up, device.cost) = (6.0, 8.0);
    device.exchange_rounds(30);
    assert_eq!((device.window.size, device.rule()), (1, InFlightRule::Measured));
}

#[test]
fn little_that_waits_needs_no_more() {
    let mut device = Device::new(4.0);
    device.waiting_records = 30;
    device.exchange_rounds(30);
    assert_eq!((device.window.size, device.rule()), (1, InFlightRule::NotNeeded));
}

#[test]
fn a_429_limits_the_number_for_a_time_and_each_time_for_longer() {
    let mut device = Device::new(4.0);
    device.exchange_rounds(30);
    let now = device.now + Duration::from_secs(10);
    device.window.record_throttling(now, device.now, 2);
    assert_eq!((device.window.limit(4), device.rule()), (2, InFlightRule::Throttled));
    device.window.record_throttling(now, device.now, 3);
    assert_eq!(device.window.limit(4), 2, "the same round");
    device.window.record_throttling(now, device.now, 0);
    assert_eq!(device.window.limit(4), 2, "it was alone");
    let until_more =
        |device: &mut Device| (1..500).find(|_| device.exchange_rounds(1) == [4]).expect("it is tried again");
    device.now = now;
    let first = until_more(&mut device);
    device.now += Duration::from_secs(10);
    device.window.record_throttling(device.now, device.now, 2);
    let second = until_more(&mut device);
    assert!(second > first + first / 2, "{first}, then {second}");
}

#[test]
fn beyond_a_number_that_led_to_a_429_one_more_is_tried_at_a_time() {
    let mut device = Device::new(16.0);
    (device.max, device.waiting_records) = (16, 1_000_000);
    device.exchange_rounds(30);
    let now = device.now + Duration::from_secs(10);
    device.window.record_throttling(now, device.now, 4);
    device.now = now;
    let limits = device.exchange_rounds(60);
    let more = |limit: &&usize| **limit > 4;
    assert_eq!(limits.iter().find(more), Some(&5), "one batch shows whether more get a 429");
    assert_eq!(limits.last(), Some(&16), "the server changed, and allows more");
}

#[test]
fn a_504_in_a_trial_is_a_measurement_and_changes_nothing_otherwise() {
    let mut device = Device::new(4.0);
    device.exchange_rounds(4);
    assert_eq!(device.rule(), InFlightRule::Trial);
    let tried = device.window.limit(4);
    for _ in 0..tried {
        let sent = MeasuredBatch { sent_at: device.now, elapsed: T, under_way: 4.0, load: load(20) };
        let now = device.now;
        device.with_prospects(|window, prospects, rng| window.record_timeout(now, &sent, prospects, rng));
    }
    assert!(device.window.limit(4) < tried, "60 s for 20 records show no gain");
    let before = device.window.size;
    let sent = MeasuredBatch { sent_at: device.now, elapsed: T, under_way: 4.0, load: load(20) };
    let now = device.now;
    device.with_prospects(|window, prospects, rng| window.record_timeout(now, &sent, prospects, rng));
    assert_eq!(device.window.size, before);
}

#[test]
fn batches_that_were_under_way_alone_do_not_decide_a_trial() {
    let mut device = Device::new(4.0);
    device.exchange_rounds(4);
    assert_eq!(device.rule(), InFlightRule::Trial);
    for _ in 0..20 {
        let (sent_at, elapsed) = (device.now, Duration::from_secs(2));
        let sent = MeasuredBatch { sent_at, elapsed, under_way: 1.0, load: load(20) };
        device.now += elapsed;
        let now = device.now;
        device.with_prospects(|window, prospects, rng| window.record_response(now, &sent, prospects, rng));
    }
    assert_eq!((device.window.size, device.rule()), (1, InFlightRule::Trial));
    device.window.drop_trial();
    assert_eq!(device.window.limit(4), 1);
}

#[test]
fn a_restart_continues_with_the_same_number() {
    let mut device = Device::new(4.0);
    device.exchange_rounds(30);
    let saved = serde_json::to_vec(&device.window).unwrap();
    let restored: InFlightWindow = serde_json::from_slice(&saved).unwrap();
    assert_eq!((restored.limit(4), restored.limit(2)), (4, 2));
    let empty: InFlightWindow = serde_json::from_str("{}").unwrap();
    assert_eq!(empty.limit(4), 1);
}

proptest! {
    #[test]
    fn no_sequence_of_responses_leaves_the_bounds(
        events in prop::collection::vec((0u8..4, 0.0f64..200.0, 1usize..60, 0usize..6, 1usize..9), 1..300),
    ) {
        let mut device = Device::new(4.0);
        for (kind, seconds, records, before, max) in events {
            device.max = max;
            let elapsed = Duration::from_secs_f64(seconds);
            let sent = MeasuredBatch { sent_at: device.now, elapsed, under_way: 8.0, load: load(records) };
            device.now += elapsed;
            let now = device.now;
            match kind {
                0 => device.with_prospects(|window, prospects, rng| {
                    window.record_timeout(now, &sent, prospects, rng);
                }),
                1 => device.window.record_throttling(now, sent.sent_at, before),
                _ => {
                    Arc::make_mut(&mut device.service).record_response(&sent.load, Measured::alone(elapsed), T);
                    device.with_prospects(|window, prospects, rng| {
                        window.record_response(now, &sent, prospects, rng);
                    });
                }
            }
            let limit = device.window.limit(max);
            prop_assert!((1..=max).contains(&limit), "{}", limit);
            let factor = device.window.load_factor(&device.service, max);
            prop_assert!(factor.is_finite() && factor > 0.0, "{}", factor);
        }
    }
}
