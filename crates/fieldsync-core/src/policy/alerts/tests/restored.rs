//! Alerts that were active when the daemon was restarted.

use super::{DAY, HOUR, MINUTE, SECOND, Scene, send_end};
use crate::api::{AlertChange, AlertName, BatchOutcome};
use crate::config::Span;
use crate::policy::alerts::AlertPolicy;
use crate::policy::alerts::facts::{ClockReading, ServerContact};
use crate::policy::alerts::send_outcomes::SendOutcomes;

/// A new process a minute later: it has the note and the store, but none of the facts that only the process knew.
fn restart(scene: &mut Scene, unreported: &[AlertChange]) {
    let note = scene.policy.to_note(unreported);
    scene.policy = AlertPolicy::restore(&note).unwrap();
    scene.outcomes = SendOutcomes::default();
    scene.contact = ServerContact::default();
    scene.advance(MINUTE);
}

fn since(scene: &Scene) -> Vec<u64> {
    scene.policy.active_alerts().iter().map(|alert| alert.since).collect()
}

#[test]
fn an_alert_that_is_active_after_a_restart_keeps_its_begin_and_does_not_start_again() {
    let mut scene = Scene::new();
    scene.backlog.quarantined = 1;
    assert_eq!(scene.changes(), [(AlertName::NeedsReview, true)]);
    let begin = scene.now.wall;
    restart(&mut scene, &[]);
    assert_eq!(scene.changes(), []);
    assert_eq!(since(&scene), [begin]);
    scene.backlog.quarantined = 0;
    assert_eq!(scene.changes(), [(AlertName::NeedsReview, false)]);
}

#[test]
fn an_alert_whose_cause_is_gone_after_a_restart_ends_with_the_first_judgement() {
    let mut scene = Scene::new();
    scene.backlog.quarantined = 1;
    let begin = scene.update().changes.remove(0).alert;
    scene.backlog.quarantined = 0;
    restart(&mut scene, &[]);
    let end = AlertChange { alert: begin, active: false };
    assert_eq!(scene.update().changes, [end], "the end says what has ended");
    restart(&mut scene, &[]);
    assert_eq!(scene.changes(), []);
}

#[test]
fn a_denial_that_lasts_over_a_restart_is_one_alert() {
    let mut scene = Scene::new().with_waiting_records();
    let deny =
        |scene: &mut Scene| scene.outcomes.record(scene.now.steady, send_end(BatchOutcome::Refused, None));
    deny(&mut scene);
    scene.update();
    scene.advance(HOUR);
    deny(&mut scene);
    assert_eq!(scene.changes(), [(AlertName::SendingDenied, true)]);
    let begin = since(&scene);
    restart(&mut scene, &[]);
    assert_eq!(scene.changes(), [], "no result of a send is known");
    deny(&mut scene);
    assert_eq!(scene.changes(), []);
    scene.advance(HOUR - SECOND);
    deny(&mut scene);
    assert_eq!((scene.changes(), since(&scene)), (vec![], begin));
    scene.outcomes.record(scene.now.steady, send_end(BatchOutcome::Answered, None));
    assert_eq!(scene.changes(), [(AlertName::SendingDenied, false)]);
}

#[test]
fn an_alert_without_facts_ends_some_time_after_the_start() {
    let mut scene = Scene::new().with_waiting_records();
    scene.contact.clock = Some(ClockReading { at: scene.now.steady, server: scene.now.wall + HOUR });
    assert_eq!(scene.changes(), [(AlertName::ClockOffset, true)]);
    restart(&mut scene, &[]);
    assert_eq!(scene.changes(), []);
    assert_eq!(scene.advance_to_due(), HOUR);
    assert_eq!(scene.changes(), [(AlertName::ClockOffset, false)]);
}

#[test]
fn a_restart_without_a_network_does_not_end_the_alert_about_it() {
    let mut scene = Scene::new().with_waiting_records();
    scene.config.telemetry.alert_oldest_pending = Span::secs(0);
    scene.update();
    scene.advance(4 * DAY);
    assert_eq!(scene.changes(), [(AlertName::NoContact, true)]);
    restart(&mut scene, &[]);
    scene.backlog.oldest_pending_at = Some(scene.now.wall);
    assert_eq!(scene.changes(), []);
    scene.advance(DAY);
    assert_eq!(scene.changes(), []);
    scene.contact.at = Some(scene.now.steady);
    assert_eq!(scene.changes(), [(AlertName::NoContact, false)]);
}

#[test]
fn a_threshold_of_zero_ends_an_alert_of_the_previous_run_at_once() {
    let mut scene = Scene::new().with_waiting_records();
    scene.contact.clock = Some(ClockReading { at: scene.now.steady, server: scene.now.wall + HOUR });
    scene.update();
    restart(&mut scene, &[]);
    scene.config.telemetry.alert_clock_offset = Span::secs(0);
    assert_eq!(scene.changes(), [(AlertName::ClockOffset, false)]);
}

#[test]
fn changes_that_were_not_handed_over_are_reported_after_the_restart() {
    let mut scene = Scene::new();
    scene.backlog.quarantined = 1;
    let start = scene.update().changes;
    let begin = since(&scene);
    restart(&mut scene, &start);
    assert_eq!(scene.changes(), [(AlertName::NeedsReview, true)]);
    assert_eq!(since(&scene), begin);
    assert_eq!(scene.changes(), []);
    scene.backlog.quarantined = 0;
    let end = scene.update().changes;
    restart(&mut scene, &end);
    assert_eq!(scene.changes(), [(AlertName::NeedsReview, false)]);
}

#[test]
fn a_note_that_cannot_be_decoded_is_an_error_and_an_unknown_alert_is_left_out() {
    assert!(AlertPolicy::restore(b"{}").is_err());
    let note = br#"[{"alert":"of_a_later_version","message":"x","since":"2026-11-29T10:41:16.000Z"}]"#;
    assert_eq!(AlertPolicy::restore(note).unwrap().active_alerts(), []);
}
