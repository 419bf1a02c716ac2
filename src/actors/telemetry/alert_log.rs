//! The journal entries of alerts, each with an id of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::api::{Alert, AlertChange, AlertName};
use crate::journal;

/// The journal gets the same alert no more often than this, however often it starts and ends.
const ALERT_LOG_INTERVAL: Duration = Duration::from_hours(1);

/// When each alert was logged last.
#[derive(Default)]
pub(super) struct AlertLog {
    started: BTreeMap<AlertName, LoggedStart>,
}

struct LoggedStart {
    at: Duration,
    /// Its end was not logged yet.
    is_open: bool,
}

impl AlertLog {
    /// Logs a start, or the end of a start that was logged.
    pub(super) fn log_change(&mut self, change: &AlertChange, now: Duration) {
        let AlertChange { alert, active } = change;
        let Some(name) = alert.alert.known() else { return };
        let logged = self.started.get_mut(&name);
        if !active {
            if let Some(start) = logged.filter(|start| start.is_open) {
                start.is_open = false;
                tracing::info!(name: journal::ALERT_ENDED, alert = %name, "the alert {name} has ended");
            }
            return;
        }
        if logged.is_none_or(|start| now.saturating_sub(start.at) >= ALERT_LOG_INTERVAL) {
            log_start(name, alert);
            self.started.insert(name, LoggedStart { at: now, is_open: true });
        }
    }
}

fn log_start(name: AlertName, alert: &Alert) {
    macro_rules! line {
        ($id:ident) => {
            tracing::warn!(
                name: journal::$id,
                alert = %name,
                severity = %alert.severity,
                "alert: {}",
                alert.line()
            )
        };
    }
    match name {
        AlertName::NeedsReview => line!(NEEDS_REVIEW),
        AlertName::RecordsWait => line!(RECORDS_WAIT),
        AlertName::QueueFilling => line!(QUEUE_FILLING),
        AlertName::StoreDamaged => line!(STORE_DAMAGED),
        AlertName::TokenInClear => line!(TOKEN_IN_CLEAR),
        AlertName::BreakerOpen => line!(BREAKER_STAYS_OPEN),
        AlertName::AmbiguousAnswers => line!(AMBIGUOUS_ANSWERS),
        AlertName::DiskLow => line!(DISK_LOW),
        AlertName::CredentialExpires => line!(CREDENTIAL_EXPIRES),
        AlertName::CredentialRefused => line!(CREDENTIAL_REFUSED),
        AlertName::ClockOffset => line!(CLOCK_OFFSET),
        AlertName::NoContact => line!(NO_CONTACT),
        AlertName::Restarts => line!(RESTARTS),
        AlertName::SendingDenied => line!(SENDING_DENIED),
        // Already logged with the reason, by the store or by the reload.
        AlertName::DiskFull | AlertName::DiskFailing | AlertName::ConfigurationRefused => {}
    }
}
