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
