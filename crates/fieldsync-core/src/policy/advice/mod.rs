//! What people read first: the situation of the device in a sentence, its cause, and what to do about it.
//!
//! [`describe_situation`] is the only source of these texts. The local API, systemd's `STATUS=`, the command line and
//! the page show them, and [`crate::policy::waiting`] uses the same causes for one record. `docs/operations.md` has the
//! table of all situations.

mod causes;
mod connect;
mod facts;
mod obstacle;
mod places;
mod responses;

#[cfg(test)]
mod tests;

pub(in crate::policy) use causes::find_obstacle;
pub use facts::{CredentialFacts, DeviceFacts, FullQueue, PlannerFacts, ServerName};
use obstacle::BY_ITSELF;
pub use obstacle::Obstacle;

use crate::api::SyncReason;
use crate::model::{Backlog, DeniedSet, DiskState, Phase};
use crate::policy::progress::Progress;

/// A response that takes longer than this is worth a sentence.
pub const RESPONSE_WAIT_MIN_MS: u64 = 5000;

/// The remedy while the response is awaited.
pub(in crate::policy) const AWAIT_RESPONSE: &str =
    "wait for it; if no response comes again and again, tell the administrator of the server";

/// The situation of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Situation {
    /// For programs.
    pub reason: SyncReason,
    /// What is going on, and why.
    pub text: String,
    /// What a person can do; none if there is nothing to do.
    pub remedy: Option<String>,
}

/// Describes the situation of the device.
pub fn describe_situation(device: &DeviceFacts<'_>, progress: &Progress) -> Situation {
    let backlog = device.backlog;
    if backlog.storage.disk == DiskState::Failing {
        return add_refusal(failing_disk(backlog), device.refusal);
    }
    let situation = match find_obstacle(device) {
        Some(obstacle) => describe_obstacle(device, obstacle),
        None => describe_progress(device, progress),
    };
    let situation = Situation { text: situation.text + &denied_note(device.planner.denied), ..situation };
    let situation = match device.full_queue {
        Some(full) => on_full_queue(situation, full),
        None => situation,
    };
    let situation = add_refusal(situation, device.refusal);
    match backlog.storage.disk {
        DiskState::Full => on_full_disk(situation),
        DiskState::Ok | DiskState::Failing => situation,
    }
}

/// The headline, the number of records, the details.
fn describe_obstacle(device: &DeviceFacts<'_>, obstacle: Obstacle) -> Situation {
    let Obstacle { reason, headline, detail, remedy, .. } = obstacle;
    // A device without a server is not set up, with or without records.
    if reason == SyncReason::NoServer && device.backlog.to_go() == 0 {
        return Situation { reason, text: headline, remedy };
    }
    let waiting = count_records(device.backlog.to_go(), " waiting");
    let reviews = review_note(device.backlog);
    // What waits for a review does not end by itself.
    let needs_review = device.backlog.quarantined > 0 && remedy.as_deref() == Some(BY_ITSELF);
    let remedy = if needs_review { Some(REVIEW.to_owned()) } else { remedy };
    let detail = if detail.is_empty() { String::new() } else { format!(". {detail}") };
    Situation { reason, text: format!("{headline}: {waiting}{reviews}{detail}"), remedy }
}

/// Nothing is in the way.
fn describe_progress(device: &DeviceFacts<'_>, progress: &Progress) -> Situation {
    let reviews = review_note(device.backlog);
    let total = count_records(progress.total, "");
    if device.planner.phase != Phase::Idle {
        return describe_sending(device, &format!("{} of {total}{reviews}", progress.done));
    }
    let text = match progress {
        Progress { total: 0, .. } => format!("Nothing to sync{reviews}"),
        Progress { synced, total: all, .. } if synced < all => format!("{synced} of {total} synced{reviews}"),
        Progress { total: 1, .. } => format!("1 record synced{reviews}"),
        Progress { total: all, .. } => format!("All {all} records synced{reviews}"),
    };
    if device.backlog.quarantined == 0 {
        return Situation { reason: SyncReason::NothingToSend, text, remedy: None };
    }
    Situation { reason: SyncReason::NeedsReview, text, remedy: Some(REVIEW.to_owned()) }
}

/// The remedy for records that need review.
pub const REVIEW: &str = "decide about each record that needs review: fieldsync quarantine list";

fn describe_sending(device: &DeviceFacts<'_>, progress: &str) -> Situation {
    let sent_for = device.planner.sent_at.map(|sent_at| device.now.saturating_sub(sent_at));
    let Some(sent_for) = sent_for.filter(|sent_for| *sent_for >= RESPONSE_WAIT_MIN_MS) else {
        return Situation { reason: SyncReason::Sending, text: format!("Syncing {progress}"), remedy: None };
    };
    let (seconds, limit) = (sent_for / 1000, device.planner.time_limit_ms.div_ceil(1000));
    Situation {
        reason: SyncReason::AwaitingResponse,
        text: format!(
            "Waiting for the server's response, {seconds} s so far (limit {limit} s): syncing {progress}"
        ),
        remedy: Some(AWAIT_RESPONSE.to_owned()),
    }
}

fn failing_disk(backlog: &Backlog) -> Situation {
    let kept = backlog.to_go() + backlog.quarantined;
    let are = if kept == 1 { " is" } else { " are" };
    Situation {
        reason: SyncReason::DiskFailing,
        text: format!(
            "The disk gives errors: no records are taken or sent; {} kept",
            count_records(kept, are)
        ),
        remedy: Some("have the disk checked; fieldsync doctor names it".into()),
    }
}

/// New records are refused, whatever else is going on. The remedy of that comes second.
fn on_full_disk(situation: Situation) -> Situation {
    let Situation { reason, text, remedy } = situation;
    let free = "free some space on the disk under the queue; fieldsync doctor names it";
    let others = remedy.filter(|remedy| reason != SyncReason::DiskFull && is_action(remedy));
    Situation {
        reason: SyncReason::DiskFull,
        text: format!("The disk is full: no new records are taken. {text}"),
        remedy: Some(others.map_or_else(|| free.to_owned(), |other| format!("{free}. Then: {other}"))),
    }
}

/// New records are refused, and those in the queue are sent. Sending makes room, so its remedy comes first.
fn on_full_queue(situation: Situation, full: &FullQueue) -> Situation {
    let Situation { reason, text, remedy } = situation;
    let key = full.key;
    let (what, raise) = match &full.user {
        None => ("The queue is full".to_owned(), format!("raise {key}")),
        Some(user) => (
            format!("The share of {user} in the queue is full"),
            format!("raise queue.max_user_share or {key}"),
        ),
    };
    let remedy = match remedy.filter(|remedy| is_action(remedy)) {
        Some(remedy) => format!("{remedy}. That makes room in the queue; else {raise}"),
        None => format!("wait until records are sent, which makes room in the queue, or {raise}"),
    };
    Situation { reason, text: format!("{what}: no new records are taken. {text}"), remedy: Some(remedy) }
}

/// Whether a remedy asks a person for something.
fn is_action(remedy: &str) -> bool {
    remedy != BY_ITSELF && remedy != AWAIT_RESPONSE
}

/// The text after the sentence while batches are denied and others succeed.
fn denied_note(denied: &[DeniedSet]) -> String {
    let Some(first) = denied.first() else { return String::new() };
    let records: usize = denied.iter().map(|set| set.records).sum();
    let status = first.error.http_status.map_or(String::new(), |status| format!(" with HTTP {status}"));
    let (of, are) = if records == 1 { ("1 record", "is") } else { ("records", "are") };
    let how_many = if records == 1 { String::new() } else { format!("{records} ") };
    format!(" ({how_many}{of} {are} refused{status} while others get through)")
}

/// A configuration that is refused stops nothing, and a person must correct it.
fn add_refusal(situation: Situation, refusal: Option<&str>) -> Situation {
    let Some(message) = refusal else { return situation };
    let Situation { reason, text, remedy } = situation;
    let correct = "correct the configuration, then: systemctl reload fieldsync";
    let text = format!("{text} (configuration refused: {message})");
    let remedy = match remedy.filter(|remedy| is_action(remedy)) {
        Some(remedy) => format!("{remedy}. Also {correct}"),
        None => correct.to_owned(),
    };
    Situation { reason, text, remedy: Some(remedy) }
}

/// ` (2 need review)`
fn review_note(backlog: &Backlog) -> String {
    match backlog.quarantined {
        0 => String::new(),
        1 => " (1 needs review)".to_owned(),
        n => format!(" ({n} need review)"),
    }
}

fn count_records(count: u64, what: &str) -> String {
    let noun = if count == 1 { "record" } else { "records" };
    format!("{count} {noun}{what}")
}
