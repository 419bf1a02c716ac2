//! The journal entries of alerts, each with an id of its own.
//!
//! The last entry of an alert never says that it has ended while it is active: each start after such an entry is
//! logged, and each step to a higher severity. So only the number of ends is limited.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::api::{Alert, AlertChange, AlertName, AlertSeverity, OpenEnum};
use crate::clock::minute_text;
use crate::journal;

/// Of an alert that starts and ends often, this many ends are logged within [`ENDS_WINDOW`], and so many starts.
const ENDS_LOGGED_MAX: u32 = 6;
const ENDS_WINDOW: Duration = Duration::from_hours(1);

/// What the journal has of each alert.
#[derive(Default)]
pub(super) struct AlertLog {
    alerts: BTreeMap<AlertName, LoggedAlert>,
}

#[derive(Default)]
struct LoggedAlert {
    /// The severity in the last entry; none if that says that the alert has ended.
    severity: Option<OpenEnum<AlertSeverity>>,
    window_begin: Duration,
    ends_in_window: u32,
}

/// What is to be logged of a change.
#[derive(Debug, PartialEq, Eq)]
enum LogEntry {
    /// It started, or became more severe.
    Active,
    Ended,
    /// It has ended once more than is logged.
    EndsOften,
    Nothing,
}

impl AlertLog {
    /// Logs a start, a higher severity, or the end of a start that was logged.
    pub(super) fn log_change(&mut self, change: &AlertChange, now: Duration) {
        let Some(name) = change.alert.alert.known() else { return };
        match self.record_change(name, change, now) {
            LogEntry::Active => log_start(name, &change.alert),
            LogEntry::Ended => {
                tracing::info!(name: journal::ALERT_ENDED, alert = %name, "the alert {name} has ended");
            }
            LogEntry::EndsOften => {
                tracing::info!(alert = %name, "the alert {name} starts and ends often: that is not logged for a while");
            }
            LogEntry::Nothing => {}
        }
    }

    /// Logs an alert of the previous run, which has its start in the journal already.
    pub(super) fn log_restored(&mut self, alert: &Alert) {
        let Some(name) = alert.alert.known() else { return };
        self.alerts.entry(name).or_default().severity = Some(alert.severity.clone());
        let since = minute_text(alert.since);
        tracing::info!(alert = %name, "the alert {name} was active before this start, since {since}: {}", alert.message);
    }

    fn record_change(&mut self, name: AlertName, change: &AlertChange, now: Duration) -> LogEntry {
        let logged = self.alerts.entry(name).or_default();
        if change.active {
            let severity = Some(change.alert.severity.clone());
            if severity <= logged.severity {
                return LogEntry::Nothing;
            }
            logged.severity = severity;
            return LogEntry::Active;
        }
        if logged.severity.is_none() {
            return LogEntry::Nothing;
        }
        if now.saturating_sub(logged.window_begin) >= ENDS_WINDOW {
            (logged.window_begin, logged.ends_in_window) = (now, 0);
        }
        logged.ends_in_window = logged.ends_in_window.saturating_add(1);
        if logged.ends_in_window <= ENDS_LOGGED_MAX {
            logged.severity = None;
            return LogEntry::Ended;
        }
        if logged.ends_in_window == ENDS_LOGGED_MAX + 1 { LogEntry::EndsOften } else { LogEntry::Nothing }
    }
}

fn log_start(name: AlertName, alert: &Alert) {
    macro_rules! line {
        ($id:expr) => {
            tracing::warn!(
                name: $id,
                alert = %name,
                severity = %alert.severity,
                "alert: {}",
                alert.line()
            )
        };
    }
    match name {
        AlertName::NeedsReview => line!(journal::NEEDS_REVIEW),
        AlertName::RecordsWait => line!(journal::RECORDS_WAIT),
        AlertName::QueueFilling => line!(journal::QUEUE_FILLING),
        AlertName::StoreDamaged => line!(journal::STORE_DAMAGED),
        AlertName::TokenInClear => line!(journal::TOKEN_IN_CLEAR),
        AlertName::BreakerOpen => line!(journal::BREAKER_STAYS_OPEN),
        AlertName::AmbiguousAnswers => line!(journal::AMBIGUOUS_ANSWERS),
        AlertName::DiskLow => line!(journal::DISK_LOW),
        AlertName::CredentialExpires => line!(journal::CREDENTIAL_EXPIRES),
        AlertName::CredentialRefused => line!(journal::CREDENTIAL_REFUSED),
        AlertName::ClockOffset => line!(journal::CLOCK_OFFSET),
        AlertName::NoContact => line!(journal::NO_CONTACT),
        AlertName::Restarts => line!(journal::RESTARTS),
        AlertName::SendingDenied => line!(journal::SENDING_DENIED),
        // Already logged with the reason, by the store or by the reload.
        AlertName::DiskFull | AlertName::DiskFailing | AlertName::ConfigurationRefused => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn change(active: bool, severity: AlertSeverity) -> AlertChange {
        let alert = Alert {
            alert: AlertName::QueueFilling.into(),
            severity: severity.into(),
            message: "m".into(),
            remedy: "r".into(),
            since: 0,
        };
        AlertChange { alert, active }
    }

    fn record(log: &mut AlertLog, active: bool, severity: AlertSeverity, now: Duration) -> LogEntry {
        log.record_change(AlertName::QueueFilling, &change(active, severity), now)
    }

    #[test]
    fn a_start_after_a_logged_end_is_logged_however_soon_it_comes() {
        let mut log = AlertLog::default();
        let mut record = |active| record(&mut log, active, AlertSeverity::Warning, SECOND);
        assert_eq!(
            [record(true), record(false), record(true)],
            [LogEntry::Active, LogEntry::Ended, LogEntry::Active]
        );
    }

    #[test]
    fn the_step_to_critical_is_logged_once() {
        let mut log = AlertLog::default();
        let steps = [AlertSeverity::Warning, AlertSeverity::Critical, AlertSeverity::Critical];
        assert_eq!(
            steps.map(|severity| record(&mut log, true, severity, SECOND)),
            [LogEntry::Active, LogEntry::Active, LogEntry::Nothing]
        );
    }

    #[test]
    fn an_alert_that_flaps_is_logged_a_few_times_an_hour_and_the_last_entry_says_active() {
        let mut log = AlertLog::default();
        let mut entries = Vec::new();
        for _ in 0..100 {
            for active in [true, false] {
                entries.push(record(&mut log, active, AlertSeverity::Warning, SECOND));
            }
        }
        entries.retain(|entry| *entry != LogEntry::Nothing);
        assert_eq!(entries.len(), 14);
        assert_eq!(entries[12..], [LogEntry::Active, LogEntry::EndsOften]);
        let later = SECOND + ENDS_WINDOW;
        assert_eq!(record(&mut log, true, AlertSeverity::Critical, later), LogEntry::Active);
        assert_eq!(record(&mut log, false, AlertSeverity::Critical, later), LogEntry::Ended);
    }

    #[test]
    fn an_end_is_logged_only_if_its_start_was_perhaps_by_the_previous_run() {
        let mut log = AlertLog::default();
        assert_eq!(record(&mut log, false, AlertSeverity::Warning, SECOND), LogEntry::Nothing);
        log.log_restored(&change(true, AlertSeverity::Warning).alert);
        assert_eq!(record(&mut log, false, AlertSeverity::Warning, SECOND), LogEntry::Ended);
    }
}
