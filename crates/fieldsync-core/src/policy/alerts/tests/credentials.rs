//! Credentials that expire or are refused.

use super::{DAY, HOUR, Scene};
use crate::api::{AlertName, AlertSeverity};
use crate::model::Phase;
use crate::policy::alerts::facts::Validity;

#[test]
fn a_certificate_is_reported_before_it_expires_and_more_urgently_afterwards() {
    let mut scene = Scene::new();
    let ends = scene.now.wall + 20 * DAY;
    scene.expiry.certificate = Some(Validity { begins: Some(scene.now.wall - 300 * DAY), ends });
    assert_eq!(scene.changes(), []);
    assert_eq!(scene.advance_to_due(), 6 * DAY);
    assert_eq!(scene.changes(), [(AlertName::CredentialExpires, true)]);
    assert_eq!(scene.advance_to_due(), 14 * DAY);
    let update = scene.update();
    assert_eq!(update.changes[0].alert.severity, AlertSeverity::Critical);
    assert!(update.changes[0].active && update.changes[0].alert.message.contains("expired"), "{update:?}");
    assert_eq!(update.next_due, None);
    scene.expiry.certificate = Some(Validity { begins: None, ends: ends + 300 * DAY });
    assert_eq!(scene.changes(), [(AlertName::CredentialExpires, false)]);
}

#[test]
fn a_short_lived_token_is_reported_only_in_its_last_tenth() {
    let mut scene = Scene::new();
    scene.expiry.token = Some(Validity { begins: Some(scene.now.wall), ends: scene.now.wall + 10 * HOUR });
    scene.expiry.certificate = Some(Validity { begins: None, ends: scene.now.wall + 300 * DAY });
    assert_eq!(scene.changes(), []);
    assert_eq!(scene.advance_to_due(), 9 * HOUR);
    assert_eq!(scene.changes(), [(AlertName::CredentialExpires, true)]);
    assert!(scene.policy.active_alerts()[0].message.starts_with("the token"));
}

#[test]
fn a_refused_credential_is_reported_until_it_is_accepted_also_without_a_link() {
    let mut scene = Scene::new().with_waiting_records();
    for (phase, expected) in [
        (Phase::Syncing, None),
        (Phase::AuthRequired, Some(true)),
        (Phase::Offline, None),
        (Phase::AuthRequired, None),
        (Phase::Syncing, Some(false)),
        (Phase::Offline, None),
    ] {
        scene.phase = phase;
        let expected: Vec<_> =
            expected.iter().map(|starts| (AlertName::CredentialRefused, *starts)).collect();
        assert_eq!(scene.changes(), expected, "{phase:?}");
    }
}
