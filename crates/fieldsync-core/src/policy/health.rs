//! Whether a device needs attention, for programs that watch many devices.

use serde::Serialize;

use crate::api::{Alert, AlertName, OpenEnum, Phase};

/// What a monitoring program should know first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Nothing to do.
    Well,
    /// It does not continue without a person, or a person should look at it.
    PersonMustAct,
    /// Records wait for longer than the configuration allows.
    WaitsTooLong,
}

/// Judges the phase with its sentence, and the alerts; gives the reasons. The need for a person comes before a long wait.
pub fn judge_health(phase: &OpenEnum<Phase>, text: &str, alerts: &[Alert]) -> (Health, Vec<String>) {
    let mut reasons = Vec::new();
    match phase.known() {
        Some(Phase::Paused | Phase::AuthRequired | Phase::Misconfigured) => {
            reasons.push(text.to_owned());
        }
        Some(Phase::Idle | Phase::Syncing | Phase::Waiting | Phase::Offline | Phase::Deferred) | None => {}
    }
    let (waits, others): (Vec<_>, Vec<_>) =
        alerts.iter().partition(|alert| alert.alert == AlertName::RecordsWait);
    reasons.extend(others.into_iter().map(|alert| alert.message.clone()));
    if !reasons.is_empty() {
        return (Health::PersonMustAct, reasons);
    }
    if waits.is_empty() {
        return (Health::Well, reasons);
    }
    let waits = waits.into_iter().map(|alert| format!("{}: {}", alert.message, text));
    (Health::WaitsTooLong, waits.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_need_for_a_person_comes_before_a_long_wait() {
        let alert = |name: AlertName| Alert { alert: name.into(), message: name.to_string(), since: 0 };
        for (phase, alerts, expected) in [
            (Phase::Idle, vec![], Health::Well),
            (Phase::Offline, vec![], Health::Well),
            (Phase::Offline, vec![alert(AlertName::RecordsWait)], Health::WaitsTooLong),
            (Phase::Paused, vec![alert(AlertName::RecordsWait)], Health::PersonMustAct),
            (Phase::AuthRequired, vec![], Health::PersonMustAct),
            (Phase::Misconfigured, vec![], Health::PersonMustAct),
            (Phase::Idle, vec![alert(AlertName::NeedsReview)], Health::PersonMustAct),
            (
                Phase::Syncing,
                vec![alert(AlertName::RecordsWait), alert(AlertName::DiskFull)],
                Health::PersonMustAct,
            ),
        ] {
            let (health, reasons) = judge_health(&phase.into(), "text", &alerts);
            assert_eq!(health, expected, "{phase:?}");
            assert_eq!(reasons.is_empty(), health == Health::Well);
        }
    }
}
