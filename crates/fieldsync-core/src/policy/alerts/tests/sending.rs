//! A server that fails, and one that denies.

use std::time::Duration;

use super::{MINUTE, Scene, send_end};
use crate::api::{AlertName, AlertSeverity, BatchOutcome};
use crate::model::LinkState;
use crate::policy::breaker::Mode;

const OPEN: Mode = Mode::Open { until: Duration::ZERO };

#[test]
fn an_open_breaker_is_reported_after_its_time_and_until_batches_succeed_for_a_while() {
    let mut scene = Scene::new().with_waiting_records();
    scene.breaker = OPEN;
    assert_eq!(scene.changes(), []);
    scene.advance(10 * MINUTE);
    scene.breaker = Mode::Probing;
    assert_eq!(scene.changes(), []);
    scene.breaker = OPEN;
    scene.update();
    assert_eq!(scene.advance_to_due(), 20 * MINUTE, "a failed probe is no success");
    assert_eq!(scene.changes(), [(AlertName::BreakerOpen, true)]);
    scene.breaker = Mode::Micro;
    assert_eq!(scene.changes(), []);
    scene.advance(MINUTE);
    scene.breaker = OPEN;
    assert_eq!(scene.changes(), []);
    scene.breaker = Mode::Micro;
    scene.update();
    assert_eq!(scene.advance_to_due(), 5 * MINUTE);
    assert_eq!(scene.changes(), [(AlertName::BreakerOpen, false)]);
    scene.breaker = OPEN;
    scene.update();
    scene.advance(30 * MINUTE);
    assert_eq!(scene.changes(), [(AlertName::BreakerOpen, true)]);
    scene.breaker = Mode::Normal;
    assert_eq!(scene.changes(), [(AlertName::BreakerOpen, false)]);
}

#[test]
fn denials_of_everything_are_reported_after_the_longest_wait_until_one_is_not_denied() {
    let mut scene = Scene::new().with_waiting_records();
    scene.outcomes.record(scene.now.steady, send_end(BatchOutcome::Refused, None));
    assert_eq!(scene.changes(), []);
    scene.advance(15 * MINUTE);
    scene.outcomes.record(scene.now.steady, send_end(BatchOutcome::Misconfigured, None));
    assert_eq!(scene.changes(), [(AlertName::SendingDenied, true)]);
    assert_eq!(scene.policy.active_alerts()[0].severity, AlertSeverity::Critical);
    scene.outcomes.record(scene.now.steady, send_end(BatchOutcome::Unauthorized, Some(403)));
    assert_eq!(scene.changes(), [], "the credential is known");
    scene.outcomes.record(scene.now.steady, send_end(BatchOutcome::Timeout, None));
    assert_eq!(scene.changes(), [(AlertName::SendingDenied, false)], "not everything is denied");
}

#[test]
fn one_denial_before_the_network_was_lost_is_no_alert() {
    let mut scene = Scene::new().with_waiting_records();
    scene.outcomes.record(scene.now.steady, send_end(BatchOutcome::Interfered, None));
    for _ in 0..10 {
        scene.advance(MINUTE * 60);
        scene.outcomes.record(scene.now.steady, send_end(BatchOutcome::Unreachable, None));
        assert_eq!(scene.changes(), []);
    }
}

#[test]
fn a_login_page_and_a_denied_batch_have_messages_of_their_own() {
    for (link, denied, part) in
        [(LinkState::CaptivePortal, 0, "a login page"), (LinkState::Online, 1, "a batch is denied since")]
    {
        let mut scene = Scene::new().with_waiting_records();
        (scene.link, scene.denied_batches) = (link, denied);
        assert_eq!(scene.changes(), []);
        assert_eq!(scene.advance_to_due(), 15 * MINUTE);
        assert_eq!(scene.changes(), [(AlertName::SendingDenied, true)]);
        let message = scene.policy.active_alerts().remove(0).message;
        assert!(message.contains(part), "{message}");
        (scene.link, scene.denied_batches) = (LinkState::Online, 0);
        assert_eq!(scene.changes(), [(AlertName::SendingDenied, false)]);
    }
}
