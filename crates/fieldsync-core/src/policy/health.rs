//! Whether a device needs attention, for programs that watch many devices.

use serde::Serialize;

use crate::api::{Alert, AlertName, Phase, Sync, SyncReason};

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

/// Judges the situation and the alerts; gives the reasons. The need for a person comes before a long wait.
pub fn judge_health(sync: &Sync, alerts: &[Alert]) -> (Health, Vec<String>) {
    let mut reasons = Vec::new();
    let text = sync.line();
    let is_stopped = is_stopped(sync);
    if is_stopped {
        reasons.push(text.clone());
    }
    let (waits, others): (Vec<_>, Vec<_>) = alerts.iter().partition(|alert| is_about_wait(alert));
    let others = others.into_iter().filter(|alert| !(is_stopped && repeats_situation(alert)));
    reasons.extend(others.map(Alert::line));
    if !reasons.is_empty() {
        return (Health::PersonMustAct, reasons);
    }
    if waits.is_empty() {
        return (Health::Well, reasons);
    }
    let waits = waits.into_iter().map(|alert| format!("{}: {text}", alert.message));
    (Health::WaitsTooLong, waits.collect())
}

/// Records wait too long or are sent slowly, because of the network or the server.
fn is_about_wait(alert: &Alert) -> bool {
    use AlertName::{AmbiguousAnswers, BreakerOpen, NoContact, RecordsWait};
    matches!(alert.alert.known(), Some(RecordsWait | NoContact | BreakerOpen | AmbiguousAnswers))
}

/// The sentence about the situation says the same if nothing can be sent.
fn repeats_situation(alert: &Alert) -> bool {
    matches!(alert.alert.known(), Some(AlertName::CredentialRefused | AlertName::SendingDenied))
}

fn is_stopped(sync: &Sync) -> bool {
    let is_stop = |phase: Phase| matches!(phase, Phase::Paused | Phase::AuthRequired | Phase::Misconfigured);
    if sync.phase.known().is_some_and(is_stop) {
        return true;
    }
    match sync.reason.known() {
        // A way that worked before works again; one that never did is a mistake.
        Some(SyncReason::NameUnknown | SyncReason::Proxy) => sync.last_success_at.is_none(),
        Some(reason) => needs_person(reason),
        None => false,
    }
}

/// Whether the situation does not end without a person.
pub(in crate::policy) fn needs_person(reason: SyncReason) -> bool {
    match reason {
        SyncReason::LoginPage
        | SyncReason::Tls
        | SyncReason::ClockWrong
        | SyncReason::NameUnknown
        | SyncReason::Proxy
        | SyncReason::Refused
        | SyncReason::Paused
        | SyncReason::AuthRequired
        | SyncReason::NoServer
        | SyncReason::Misconfigured => true,
        // The others end by themselves, wait on purpose, or have an alert.
        SyncReason::NothingToSend
        | SyncReason::NeedsReview
        | SyncReason::Sending
        | SyncReason::AwaitingResponse
        | SyncReason::ServerDown
        | SyncReason::NoRoute
        | SyncReason::NoNetwork
        | SyncReason::ServerBusy
        | SyncReason::ServerFailed
        | SyncReason::NoResponse
        | SyncReason::ConnectionLost
        | SyncReason::Retry
        | SyncReason::Held
        | SyncReason::Metered
        | SyncReason::Battery
        | SyncReason::DiskFull
        | SyncReason::DiskFailing => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::AlertSeverity;
    use crate::api::samples::sample_sync;

    #[test]
    fn the_need_for_a_person_comes_before_a_long_wait() {
        let alert = |name: AlertName| Alert {
            alert: name.into(),
            severity: AlertSeverity::Warning.into(),
            message: name.to_string(),
            remedy: String::new(),
            since: 0,
        };
        for (phase, alerts, expected) in [
            (Phase::Idle, vec![], Health::Well),
            (Phase::Offline, vec![], Health::Well),
            (Phase::Offline, vec![alert(AlertName::RecordsWait)], Health::WaitsTooLong),
            (Phase::Paused, vec![alert(AlertName::RecordsWait)], Health::PersonMustAct),
            (Phase::AuthRequired, vec![], Health::PersonMustAct),
            (Phase::Misconfigured, vec![], Health::PersonMustAct),
            (Phase::Idle, vec![alert(AlertName::NeedsReview)], Health::PersonMustAct),
            (Phase::Offline, vec![alert(AlertName::NoContact)], Health::WaitsTooLong),
            (Phase::Waiting, vec![alert(AlertName::SendingDenied)], Health::PersonMustAct),
            (
                Phase::Syncing,
                vec![alert(AlertName::RecordsWait), alert(AlertName::DiskFull)],
                Health::PersonMustAct,
            ),
        ] {
            let sync = Sync { phase: phase.into(), ..sample_sync() };
            let (health, reasons) = judge_health(&sync, &alerts);
            assert_eq!(health, expected, "{phase:?}");
            assert_eq!(reasons.is_empty(), health == Health::Well);
        }
    }

    #[test]
    fn an_alert_that_repeats_the_situation_is_no_second_reason() {
        let alert = |name: AlertName| Alert {
            alert: name.into(),
            severity: AlertSeverity::Critical.into(),
            message: name.to_string(),
            remedy: "act".into(),
            since: 0,
        };
        let sync = Sync { phase: Phase::AuthRequired.into(), ..sample_sync() };
        let alerts = [alert(AlertName::CredentialRefused), alert(AlertName::DiskLow)];
        let (_, reasons) = judge_health(&sync, &alerts);
        assert_eq!(reasons, [sync.line(), "disk_low. To do: act".to_owned()]);
        let (_, reasons) = judge_health(&sample_sync(), &alerts[..1]);
        assert_eq!(reasons, ["credential_refused. To do: act"]);
    }

    #[test]
    fn the_reason_shows_what_needs_a_person_in_every_phase() {
        for (phase, reason, last_success_at, expected) in [
            (Phase::Waiting, SyncReason::AuthRequired, None, Health::PersonMustAct),
            (Phase::Syncing, SyncReason::AuthRequired, Some(1), Health::PersonMustAct),
            (Phase::Waiting, SyncReason::Refused, Some(1), Health::PersonMustAct),
            (Phase::Offline, SyncReason::LoginPage, Some(1), Health::PersonMustAct),
            (Phase::Offline, SyncReason::Tls, Some(1), Health::PersonMustAct),
            (Phase::Offline, SyncReason::ClockWrong, Some(1), Health::PersonMustAct),
            (Phase::Offline, SyncReason::Misconfigured, Some(1), Health::PersonMustAct),
            (Phase::Offline, SyncReason::NameUnknown, None, Health::PersonMustAct),
            (Phase::Offline, SyncReason::NameUnknown, Some(1), Health::Well),
            (Phase::Offline, SyncReason::Proxy, Some(1), Health::Well),
            (Phase::Offline, SyncReason::NoNetwork, None, Health::Well),
            (Phase::Offline, SyncReason::ServerDown, None, Health::Well),
            (Phase::Waiting, SyncReason::ServerBusy, None, Health::Well),
            (Phase::Waiting, SyncReason::ServerFailed, None, Health::Well),
            (Phase::Waiting, SyncReason::Retry, None, Health::Well),
        ] {
            let sync = Sync { phase: phase.into(), reason: reason.into(), last_success_at, ..sample_sync() };
            assert_eq!(judge_health(&sync, &[]).0, expected, "{phase:?} {reason:?} {last_success_at:?}");
        }
    }
}
