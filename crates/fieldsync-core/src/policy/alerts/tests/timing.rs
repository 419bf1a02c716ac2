//! Changes that only the passing of time causes are announced, so that nothing polls.

use proptest::prelude::*;

use super::{DAY, HOUR, MINUTE, SECOND, Scene, boot, send_end};
use crate::api::{AlertName, BatchOutcome, ConfigurationRefusal};
use crate::model::{Damage, DiskState, Phase};
use crate::policy::alerts::facts::{ClockReading, CredentialExpiry, Validity};
use crate::policy::alerts::restarts::RestartLog;
use crate::policy::breaker::Mode;

/// A device on which everything is wrong, and has been for days.
pub(super) fn cause_all_alerts(scene: &mut Scene) {
    scene.update();
    scene.breaker = Mode::Probing;
    scene.phase = Phase::AuthRequired;
    scene.update();
    scene.advance(4 * DAY);
    scene.is_token_in_clear = true;
    scene.refusal = Some(ConfigurationRefusal {
        message: "config.toml: line 3: x".into(),
        at: scene.now.wall,
        mistakes: Vec::new(),
    });
    scene.backlog.quarantined = 1;
    scene.backlog.storage.disk = DiskState::Full;
    scene.backlog.storage.disk_free_bytes = Some(1);
    scene.backlog.storage.damage = vec![Damage {
        found_at: 7,
        kept_as: "/state/queue.redb.damaged-7".into(),
        reason: "a checksum is wrong".into(),
        salvaged: 412,
        lost: 3,
    }];
    (scene.queue.used, scene.queue.is_full) = (1000, true);
    scene.queue.message = "the queue holds 1000 of at most 1000 records; the queue is full".into();
    for _ in 0..20 {
        scene.outcomes.record(scene.now.steady, send_end(BatchOutcome::Timeout, None));
    }
    for _ in 0..2 {
        scene.outcomes.record(scene.now.steady, send_end(BatchOutcome::Refused, None));
        scene.advance(15 * MINUTE);
    }
    scene.expiry.certificate = Some(Validity { begins: None, ends: scene.now.wall });
    scene.contact.clock = Some(ClockReading { at: scene.now.steady, server: scene.now.wall + HOUR });
    let mut note = RestartLog::default().to_note();
    for _ in 0..5 {
        scene.starts = RestartLog::record_start(Some(&note), scene.now.steady, Some(boot())).unwrap();
        note = scene.starts.to_note();
    }
    scene.update();
}

#[test]
fn the_alert_of_damage_says_how_many_records_were_salvaged_and_lost() {
    let mut scene = Scene::new().with_waiting_records();
    cause_all_alerts(&mut scene);
    let damaged = scene.policy.active_alerts().remove(0);
    assert_eq!((damaged.alert.known(), damaged.since), (Some(AlertName::StoreDamaged), 7));
    for part in ["412 records were salvaged and 3 are known to be lost", "damaged-7"] {
        assert!(damaged.message.contains(part), "{}", damaged.message);
    }
    assert!(damaged.remedy.contains("store acknowledge"));
}

#[test]
fn a_record_that_waits_too_long_is_noticed_by_the_announced_timer() {
    let mut scene = Scene::new().with_waiting_records();
    assert_eq!(scene.changes(), []);
    assert_eq!(scene.advance_to_due(), DAY);
    assert_eq!(scene.changes(), [(AlertName::RecordsWait, true)]);
    assert_eq!(scene.advance_to_due(), 2 * DAY, "no contact is the next");
    assert_eq!(scene.changes(), [(AlertName::NoContact, true)]);
    assert_eq!(scene.next_due, None);
    (scene.backlog.pending, scene.backlog.oldest_pending_at) = (0, None);
    assert_eq!(scene.changes(), [(AlertName::RecordsWait, false), (AlertName::NoContact, false)]);
}

#[test]
fn a_wall_clock_that_is_set_changes_no_wait() {
    let mut scene = Scene::new().with_waiting_records();
    scene.update();
    scene.advance(HOUR);
    scene.now.wall += 3650 * DAY;
    assert_eq!(scene.changes(), []);
    assert_eq!(scene.advance_to_due(), DAY - HOUR);
    assert_eq!(scene.changes(), [(AlertName::RecordsWait, true)]);
}

#[test]
fn contact_counts_only_while_records_wait_and_nobody_paused() {
    let mut scene = Scene::new();
    scene.config.telemetry.alert_oldest_pending.0 = std::time::Duration::ZERO;
    scene.advance(30 * DAY);
    assert_eq!(scene.changes(), []);
    scene = scene.with_waiting_records();
    scene.contact.at = Some(scene.now.steady - DAY);
    scene.update();
    assert_eq!(scene.advance_to_due(), 3 * DAY);
    assert_eq!(scene.changes(), [(AlertName::NoContact, true)]);
    scene.contact.at = Some(scene.now.steady);
    assert_eq!(scene.changes(), [(AlertName::NoContact, false)]);
    scene.backlog.paused = true;
    scene.update();
    assert_eq!(scene.next_due, None);
    // After a pause, the server gets the time to respond.
    scene.advance(10 * DAY);
    scene.backlog.paused = false;
    assert_eq!(scene.changes(), []);
    assert_eq!(scene.advance_to_due(), 15 * MINUTE);
    assert_eq!(scene.changes(), [(AlertName::NoContact, true)]);
}

#[test]
fn a_restart_with_old_records_gives_the_server_the_time_to_respond() {
    let mut scene = Scene::new().with_waiting_records();
    scene.config.telemetry.alert_oldest_pending.0 = std::time::Duration::ZERO;
    scene.backlog.oldest_pending_at = Some(scene.now.wall - 30 * DAY);
    assert_eq!(scene.changes(), []);
    assert_eq!(scene.advance_to_due(), 15 * MINUTE);
    assert_eq!(scene.changes(), [(AlertName::NoContact, true)]);
}

#[test]
fn the_age_of_a_record_is_right_once_the_clock_is_set_after_a_boot() {
    let mut scene = Scene::new().with_waiting_records();
    let (right, accepted_at) = (scene.now.wall, scene.now.wall - 2 * DAY);
    (scene.now.wall, scene.backlog.oldest_pending_at) = (1000, Some(accepted_at));
    assert_eq!(scene.changes(), []);
    scene.now.wall = right;
    assert_eq!(scene.changes(), [(AlertName::RecordsWait, true)]);
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Outcome(BatchOutcome),
    Breaker(Mode),
    Pending(u64),
    Expiry(u64),
    Contact,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop::sample::select(vec![
        BatchOutcome::Answered,
        BatchOutcome::Timeout,
        BatchOutcome::Refused,
        BatchOutcome::Unauthorized,
    ]);
    let mode = prop::sample::select(vec![
        Mode::Normal,
        Mode::Micro,
        Mode::Probing,
        Mode::Open { until: std::time::Duration::ZERO },
    ]);
    let step = prop_oneof![
        (1..2 * DAY).prop_map(Step::Wait),
        (1..20 * MINUTE).prop_map(Step::Wait),
        outcome.prop_map(Step::Outcome),
        mode.prop_map(Step::Breaker),
        (0..3_u64).prop_map(Step::Pending),
        (1..30 * DAY).prop_map(Step::Expiry),
        Just(Step::Contact),
    ];
    prop::collection::vec(step, 1..60)
}

impl Step {
    fn apply(&self, scene: &mut Scene) {
        let now = scene.now;
        match self {
            Self::Wait(ms) => scene.advance(*ms),
            Self::Outcome(outcome) => {
                for _ in 0..5 {
                    scene.outcomes.record(now.steady, send_end(*outcome, None));
                }
            }
            Self::Breaker(mode) => scene.breaker = *mode,
            Self::Pending(pending) => {
                scene.backlog.pending = *pending;
                let oldest = scene.backlog.oldest_pending_at.unwrap_or(now.wall);
                scene.backlog.oldest_pending_at = Some(oldest).filter(|_| *pending > 0);
            }
            Self::Expiry(ms) => {
                let validity = Validity { begins: None, ends: now.wall + ms };
                scene.expiry = CredentialExpiry { token: Some(validity), certificate: None };
            }
            Self::Contact => scene.contact.at = Some(now.steady),
        }
    }
}

proptest! {
    #[test]
    fn nothing_changes_between_two_announced_times(steps in steps(), part in 0..1000_u64) {
        let mut scene = Scene::new();
        for step in steps {
            step.apply(&mut scene);
            scene.update();
            // A moment before the announced time, or any later time if none is announced.
            let mut early = scene.clone();
            let until = scene.next_due.map_or(100 * DAY, |due| due - scene.now.steady - 1);
            early.advance(until * part / 1000);
            prop_assert_eq!(early.changes(), []);
        }
    }

    #[test]
    fn the_announced_times_come_to_an_end(steps in steps()) {
        let mut scene = Scene::new();
        for step in steps {
            step.apply(&mut scene);
            scene.update();
        }
        for _ in 0..100 {
            if scene.next_due.is_none() {
                return Ok(());
            }
            prop_assert!(scene.advance_to_due() >= 1);
            scene.update();
        }
        prop_assert!(false, "a timer without an end: {:?}", scene.next_due);
    }

    #[test]
    fn a_started_alert_ends_only_after_its_condition_was_clear(steps in steps()) {
        // The breaker: between a start and its end, it was normal, or micro for the whole delay.
        let mut scene = Scene::new().with_waiting_records();
        let mut left_at = None;
        for step in steps {
            step.apply(&mut scene);
            let is_open = matches!(scene.breaker, Mode::Open { .. } | Mode::Probing) && scene.backlog.to_go() > 0;
            left_at = if is_open { None } else { left_at.or(Some(scene.now.steady)) };
            for (name, starts) in scene.changes() {
                if name == AlertName::BreakerOpen {
                    let is_clear = left_at.is_some_and(|at| {
                        scene.breaker == Mode::Normal || scene.now.steady - at >= 5 * MINUTE
                    });
                    prop_assert_eq!(starts, !is_clear);
                    prop_assert_eq!(starts, is_open);
                }
            }
        }
        prop_assert!(scene.now.steady > SECOND);
    }
}
