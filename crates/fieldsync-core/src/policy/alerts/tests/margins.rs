//! A value beside a threshold does not start and end an alert again and again.

use proptest::prelude::*;

use super::{DAY, HOUR, MINUTE, SECOND, Scene, SendEnd, boot, send_end};
use crate::api::{AlertName, AlertSeverity, BatchOutcome};
use crate::config::Size;
use crate::policy::alerts::facts::ClockReading;
use crate::policy::alerts::restarts::RestartLog;

/// Each value in turn, and what it starts or ends.
#[track_caller]
fn check(scene: &mut Scene, name: AlertName, set: impl Fn(&mut Scene, u64), steps: &[(u64, Option<bool>)]) {
    for (value, expected) in steps {
        set(scene, *value);
        let expected: Vec<_> = expected.iter().map(|starts| (name, *starts)).collect();
        let mut changes = scene.changes();
        if scene.next_due.is_some_and(|_| changes.is_empty()) {
            // An alert that ends after a while.
            scene.advance_to_due();
            changes = scene.changes();
        }
        assert_eq!(changes, expected, "{value}");
    }
}

#[test]
fn counts_and_sizes_end_a_tenth_beyond_their_threshold() {
    let mut scene = Scene::new();
    scene.config.telemetry.alert_quarantined = 1;
    let review = |scene: &mut Scene, value| scene.backlog.quarantined = value;
    check(
        &mut scene,
        AlertName::NeedsReview,
        review,
        &[(0, None), (1, Some(true)), (2, None), (0, Some(false))],
    );
    scene.config.telemetry.alert_quarantined = 20;
    let steps = [(19, None), (20, Some(true)), (18, None), (20, None), (17, Some(false)), (19, None)];
    check(&mut scene, AlertName::NeedsReview, review, &steps);

    let queue = |scene: &mut Scene, value| scene.queue.used = value;
    let steps = [(799, None), (800, Some(true)), (720, None), (800, None), (719, Some(false)), (799, None)];
    check(&mut scene, AlertName::QueueFilling, queue, &steps);

    scene.config.telemetry.alert_disk_free = Size(100);
    let disk = |scene: &mut Scene, value| scene.backlog.storage.disk_free_bytes = Some(value);
    let steps = [(100, None), (99, Some(true)), (109, None), (99, None), (110, Some(false)), (100, None)];
    check(&mut scene, AlertName::DiskLow, disk, &steps);
}

#[test]
fn a_full_queue_is_reported_whatever_the_percentage() {
    let mut scene = Scene::new();
    (scene.queue.used, scene.queue.is_full) = (10, true);
    assert_eq!(scene.changes(), [(AlertName::QueueFilling, true)]);
    scene.queue.is_full = false;
    assert_eq!(scene.changes(), [(AlertName::QueueFilling, false)]);
}

#[test]
fn a_clock_that_differs_is_reported_until_the_difference_is_halved() {
    let mut scene = Scene::new();
    let offset = |scene: &mut Scene, value| {
        let server = scene.now.wall + value * SECOND + SECOND;
        scene.contact.clock = Some(ClockReading { at: scene.now.steady, server });
    };
    let steps = [(119, None), (120, Some(true)), (60, None), (120, None), (59, Some(false)), (119, None)];
    check(&mut scene, AlertName::ClockOffset, offset, &steps);
    // The wall clock is set after the response.
    offset(&mut scene, 3600);
    assert_eq!(scene.changes(), [(AlertName::ClockOffset, true)]);
    scene.advance(MINUTE);
    scene.now.wall += HOUR;
    assert_eq!(scene.changes(), [(AlertName::ClockOffset, false)]);
}

#[test]
fn a_share_of_few_sends_says_nothing_and_ends_below_half_of_the_threshold() {
    let mut scene = Scene::new();
    let record = |scene: &mut Scene, outcome, count| {
        for _ in 0..count {
            scene.outcomes.record(scene.now.steady, send_end(outcome, None));
        }
    };
    record(&mut scene, BatchOutcome::Timeout, 19);
    assert_eq!(scene.changes(), []);
    record(&mut scene, BatchOutcome::ConnectionLost, 1);
    assert_eq!(scene.changes(), [(AlertName::AmbiguousAnswers, true)]);
    record(&mut scene, BatchOutcome::Unreachable, 1000);
    assert_eq!(scene.changes(), [], "nothing reached the server");
    record(&mut scene, BatchOutcome::Answered, 180);
    assert_eq!(scene.changes(), [], "10 % of 200");
    record(&mut scene, BatchOutcome::Answered, 21);
    assert_eq!(scene.changes(), [(AlertName::AmbiguousAnswers, false)]);
}

#[test]
fn ambiguous_sends_count_for_an_hour() {
    let mut scene = Scene::new();
    for _ in 0..20 {
        scene.outcomes.record(scene.now.steady, send_end(BatchOutcome::Timeout, None));
    }
    assert_eq!(scene.changes(), [(AlertName::AmbiguousAnswers, true)]);
    let waited = scene.advance_to_due();
    assert!((HOUR..HOUR + 5 * MINUTE).contains(&waited), "{waited}");
    assert_eq!(scene.changes(), [(AlertName::AmbiguousAnswers, false)]);
}

#[test]
fn unexpected_restarts_count_for_a_day_and_orderly_ones_a_third() {
    for (is_orderly, needed) in [(false, 5), (true, 15)] {
        let mut scene = Scene::new();
        let mut log = RestartLog::record_start(None, scene.now.steady, Some(boot())).unwrap();
        for restart in 1..=needed {
            scene.advance(MINUTE);
            if is_orderly {
                log.record_stop();
            }
            log = RestartLog::record_start(Some(&log.to_note()), scene.now.steady, Some(boot())).unwrap();
            scene.starts = log.clone();
            let expected: &[_] = if restart == needed { &[(AlertName::Restarts, true)] } else { &[] };
            assert_eq!(scene.changes(), expected, "{restart}");
        }
        let mut passed = 0;
        while !scene.active().is_empty() {
            passed += scene.advance_to_due();
            scene.update();
        }
        assert!((DAY - HOUR..=DAY).contains(&passed), "{passed}");
    }
    assert!(RestartLog::record_start(Some(b"[]x"), 0, Some(boot())).is_err());
}

#[test]
fn timeouts_of_large_batches_to_an_unknown_server_do_not_count() {
    let mut scene = Scene::new();
    for _ in 0..30 {
        let end = SendEnd { is_learning: true, ..send_end(BatchOutcome::Timeout, Some(504)) };
        scene.outcomes.record(scene.now.steady, end);
    }
    assert_eq!(scene.changes(), []);
}

#[test]
fn a_power_cut_is_no_crash() {
    let mut scene = Scene::new();
    let mut log = RestartLog::record_start(None, scene.now.steady, Some(boot())).unwrap();
    for number in 1..15 {
        scene.advance(MINUTE);
        let boot = Some(format!("boot {number}"));
        log = RestartLog::record_start(Some(&log.to_note()), scene.now.steady, boot).unwrap();
        scene.starts = log.clone();
        assert_eq!(scene.changes(), [], "{number}");
    }
}

#[test]
fn a_queue_that_swings_at_its_limit_is_one_alert_that_stays_critical() {
    let mut scene = Scene::new();
    let mut changes = Vec::new();
    for number in 0..100 {
        (scene.queue.used, scene.queue.is_full) = if number % 2 == 0 { (1000, true) } else { (400, false) };
        changes.extend(scene.changes());
        scene.advance(SECOND);
    }
    assert_eq!(changes, [(AlertName::QueueFilling, true)]);
    assert_eq!(scene.policy.active_alerts()[0].severity, AlertSeverity::Critical);
    (scene.queue.used, scene.queue.is_full) = (400, false);
    scene.update();
    assert!(scene.advance_to_due() >= 4 * MINUTE);
    assert_eq!(scene.changes(), [(AlertName::QueueFilling, false)]);
}

#[test]
fn the_memory_of_starts_and_sends_is_bounded() {
    let mut log = RestartLog::default();
    let mut scene = Scene::new();
    for _ in 0..2000 {
        scene.advance(SECOND);
        log = RestartLog::record_start(Some(&log.to_note()), scene.now.steady, Some(boot())).unwrap();
    }
    assert!(log.to_note().len() < 20_000, "{}", log.to_note().len());
    for _ in 0..2000 {
        scene.advance(MINUTE);
        scene.outcomes.record(scene.now.steady, send_end(BatchOutcome::Answered, None));
    }
    assert!(format!("{:?}", scene.outcomes).matches("Slot").count() <= 14);
}

proptest! {
    #[test]
    fn values_within_the_margin_start_an_alert_at_most_once(values in prop::collection::vec(720..1000_u64, 1..100)) {
        let mut scene = Scene::new();
        let mut starts = 0;
        for value in values {
            scene.queue.used = value;
            for (_, is_start) in scene.changes() {
                prop_assert!(is_start, "it ended at {value}");
                starts += 1;
            }
        }
        prop_assert!(starts <= 1);
    }
}
