//! The active alerts over a restart: the note that keeps them, and when an alert of the previous run ends.
//!
//! An alert whose cause is gone ends with the first judgement. But some facts are lost with the process, such as the
//! results of sends and the server's clock, and others are known a moment after the start, such as the free space. An
//! alert that is judged by them waits for them: otherwise each restart would end it and start it again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ActiveAlert;
use super::facts::AlertFacts;
use super::send_outcomes::SENDS_MIN;
use crate::api::{Alert, AlertChange, AlertName};
use crate::config::Telemetry;

/// The name of the note in the store.
pub const NOTE_NAME: &str = "alerts";
/// An alert of the previous run ends after this time without the facts that it is judged by.
const UNKNOWN_FACTS_WAIT_MS: u64 = 60 * 60 * 1000;

/// An alert in the note.
#[derive(Serialize, Deserialize)]
struct SavedAlert {
    #[serde(flatten)]
    alert: Alert,
    /// Its start did not reach the program that gets the alerts.
    #[serde(default)]
    is_unreported: bool,
}

/// Decodes a note. An alert that only a later version knows is left out.
pub(super) fn from_note(note: &[u8]) -> Result<BTreeMap<AlertName, ActiveAlert>, serde_json::Error> {
    let saved: Vec<SavedAlert> = serde_json::from_slice(note)?;
    let known = saved.into_iter().filter_map(|SavedAlert { alert, is_unreported }| {
        let name = alert.alert.known()?;
        Some((name, ActiveAlert { alert, cleared_at: None, is_restored: true, is_unreported }))
    });
    Ok(known.collect())
}

/// Encodes the active alerts. An end that was not handed over keeps its alert, so that it ends after the next start.
pub(super) fn to_note(active: &BTreeMap<AlertName, ActiveAlert>, unreported: &[AlertChange]) -> Vec<u8> {
    let change_of = |alert: &Alert| unreported.iter().find(|change| change.alert.alert == alert.alert);
    let still_active = active.values().map(|one| SavedAlert {
        alert: one.alert.clone(),
        is_unreported: one.is_unreported || change_of(&one.alert).is_some_and(|change| change.active),
    });
    let ended = unreported.iter().filter(|change| !change.active).filter_map(|change| {
        let is_over = !active.contains_key(&change.alert.alert.known()?);
        is_over.then(|| SavedAlert { alert: change.alert.clone(), is_unreported: false })
    });
    let saved: Vec<SavedAlert> = still_active.chain(ended).collect();
    serde_json::to_vec(&saved).unwrap_or_default()
}

/// How long an alert of the previous run must be clear before it ends, in milliseconds. `holds` says that its condition
/// is met again, but not for long enough to start an alert.
pub(super) fn end_delay(name: AlertName, holds: bool, facts: &AlertFacts<'_>, alerts: &Telemetry) -> u64 {
    let is_judged_by_duration =
        matches!(name, AlertName::BreakerOpen | AlertName::SendingDenied | AlertName::CredentialRefused);
    if is_known(name, facts, alerts) && !(holds && is_judged_by_duration) {
        return 0;
    }
    // Without contact, nothing else can show that this one is over.
    if name == AlertName::NoContact { u64::MAX } else { UNKNOWN_FACTS_WAIT_MS }
}

/// Whether the facts of this run are enough to say that the condition is clear.
fn is_known(name: AlertName, facts: &AlertFacts<'_>, alerts: &Telemetry) -> bool {
    let (sends, ambiguous) = facts.outcomes.counts(facts.now.steady);
    let is_idle = facts.backlog.to_go() == 0;
    let has_clear_result = sends > ambiguous;
    let is_space_known = facts.backlog.storage.disk_free_bytes.is_some();
    match name {
        AlertName::DiskLow => alerts.alert_disk_free.0 == 0 || is_space_known,
        AlertName::DiskFull | AlertName::DiskFailing => is_space_known,
        AlertName::CredentialExpires => {
            let is_read = facts.expiry.token.is_some() || facts.expiry.certificate.is_some();
            alerts.alert_credential_expiry.0.is_zero() || is_read
        }
        AlertName::ClockOffset => alerts.alert_clock_offset.0.is_zero() || facts.contact.clock.is_some(),
        AlertName::AmbiguousAnswers => alerts.alert_ambiguous_percent == 0 || sends >= SENDS_MIN,
        AlertName::NoContact => {
            let is_on_purpose = alerts.alert_no_contact.0.is_zero() || facts.backlog.paused;
            is_on_purpose || is_idle || facts.contact.at.is_some()
        }
        AlertName::BreakerOpen => alerts.alert_breaker_open.0.is_zero() || is_idle || has_clear_result,
        AlertName::SendingDenied => is_idle || (has_clear_result && facts.outcomes.denials.is_none()),
        AlertName::CredentialRefused => is_idle || has_clear_result,
        AlertName::StoreDamaged
        | AlertName::NeedsReview
        | AlertName::QueueFilling
        | AlertName::RecordsWait
        | AlertName::TokenInClear
        | AlertName::ConfigurationRefused
        | AlertName::Restarts => true,
    }
}
