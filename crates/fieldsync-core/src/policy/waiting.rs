//! Why a record is not sent yet: one reason, until when, and a sentence for people.
//!
//! Several reasons may hold at once. The one that keeps the record longest is named:
//!
//! 1. Reasons that only a person ends. A review of the record itself comes first. Then a disk with errors or without
//!    room, because no decision can be stored on it. Then a review of an earlier record of its key: nothing else shows
//!    it. Then a pause, a wrong configuration, a refused credential: the status shows these, too.
//! 2. Reasons that end by themselves at an unknown time, the longest chain of events first. The outcome of its last
//!    send and an earlier record of its key are waited for even after the server can be reached again. Then the
//!    connection, a metered network, a battery, and a batch that is denied while others succeed.
//! 3. Reasons that end at a known time: the last of the back-off of the record and the wait of the whole device.
//! 4. No reason: the next batch contains it.
//!
//! A record that is being sent right now is an exception: only the disk goes before it.

#[cfg(test)]
mod tests;

use super::advice::{
    AWAIT_RESPONSE, DeviceFacts, Obstacle, PlannerFacts, RESPONSE_WAIT_MIN_MS, find_obstacle,
};
use super::scheduler::HELD_CODE;
use crate::api::{SyncReason, WaitingFor, WaitingReason};
use crate::clock::rfc3339;
use crate::model::{
    BatchPhase, DeniedSet, DiskState, ManifestEntry, Phase, RecordId, RecordStanding, RecordState, WaitCause,
};

/// The state of a record.
#[derive(Clone, Copy, Debug)]
pub struct RecordFacts<'a> {
    /// The record.
    pub record: &'a RecordStanding,
    /// Whether its batch is being sent now. A batch that an earlier run of the daemon sent is not.
    pub is_sending: bool,
    /// The record that blocks it, if it still exists.
    pub blocker: Option<&'a RecordStanding>,
}

/// The daemon waits for a due record by another clock: its time may differ by so much from the record's.
const CLOCK_ROUNDING_MS: u64 = 1000;

/// A reason, until when, the sentence, and what a person can do.
struct Finding {
    reason: WaitingReason,
    until: Option<u64>,
    text: String,
    remedy: Option<String>,
}

impl Finding {
    fn new(reason: WaitingReason, until: Option<u64>, text: impl Into<String>) -> Self {
        Self { reason, until, text: text.into(), remedy: None }
    }

    fn with_remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    /// What keeps the whole device from sending.
    fn of_device(reason: WaitingReason, until: Option<u64>, obstacle: Obstacle) -> Self {
        Self { reason, until, text: obstacle.text(), remedy: obstacle.remedy }
    }
}

const TRY_NOW: &str = "nothing, it is tried again by itself; to try now: fieldsync sync";
const HELD_REMEDY: &str = "see why the earlier record waits: fieldsync list";
const DISK_REMEDY: &str = "fieldsync doctor names the disk and says more";

/// What a record waits for; none once it is synced or discarded.
pub fn waiting_for(facts: &RecordFacts<'_>, device: &DeviceFacts<'_>) -> Option<WaitingFor> {
    let RecordStanding { entry, .. } = facts.record;
    if matches!(entry.state, RecordState::Synced | RecordState::Discarded) {
        return None;
    }
    if entry.state == RecordState::Quarantined {
        return Some(under_review(entry.id));
    }
    let Finding { reason, until, text, remedy } = check_disk(device)
        .or_else(|| check_sending(facts, device))
        .or_else(|| check_reviewed_blocker(facts))
        .or_else(|| check_stop(device))
        .or_else(|| check_outcome(facts, device))
        .or_else(|| check_blocker(facts, device))
        .or_else(|| check_link(device))
        .or_else(|| check_denials(entry, device))
        .or_else(|| latest_wait(entry, device))
        .unwrap_or_else(|| next_batch(facts));
    let held_by = entry.blocked_by.filter(|_| reason == WaitingReason::Key);
    Some(WaitingFor { reason: reason.into(), until, held_by, text, remedy })
}

/// What every record under review waits for.
pub fn under_review(id: RecordId) -> WaitingFor {
    let text = "Needs review: it is not sent until its submitter or an admin edits or retries it, or an admin discards it.";
    let remedy = format!("decide about it: fieldsync quarantine show {id}");
    let reason = WaitingReason::Review.into();
    WaitingFor { reason, until: None, held_by: None, text: text.to_owned(), remedy: Some(remedy) }
}

/// The disk has errors, or no space for the next batch.
fn check_disk(device: &DeviceFacts<'_>) -> Option<Finding> {
    let text = match device.backlog.storage.disk {
        DiskState::Failing => {
            "The disk under the queue has errors: nothing is sent until it works again. An admin must look at it."
        }
        _ if device.planner.wait_cause == Some(WaitCause::Disk) => {
            "The disk under the queue is full: nothing is sent until an admin makes room on it."
        }
        DiskState::Ok | DiskState::Full => return None,
    };
    Some(Finding::new(WaitingReason::Disk, None, text).with_remedy(DISK_REMEDY))
}

fn check_sending(facts: &RecordFacts<'_>, device: &DeviceFacts<'_>) -> Option<Finding> {
    let is_in_flight = facts.is_sending && facts.record.batch_phase == Some(BatchPhase::InFlight);
    let waited = device.planner.sent_at.map_or(0, |sent_at| device.now.saturating_sub(sent_at));
    if !is_in_flight {
        return None;
    }
    let finding = |text: String| Finding::new(WaitingReason::InBatch, None, text);
    if waited < RESPONSE_WAIT_MIN_MS {
        return Some(finding("In a batch that is being sent to the server.".to_owned()));
    }
    let (seconds, limit) = (waited / 1000, device.planner.time_limit_ms.div_ceil(1000));
    let text = format!(
        "In a batch that was sent to the server, which has not responded for {seconds} s (limit {limit} s)."
    );
    Some(finding(text).with_remedy(AWAIT_RESPONSE))
}

/// An earlier record of its key needs review.
fn check_reviewed_blocker(facts: &RecordFacts<'_>) -> Option<Finding> {
    let (id, blocker) = (facts.record.entry.blocked_by?, facts.blocker?);
    let text = "needs review and goes first: its submitter or an admin must decide about it.";
    let is_reviewed = blocker.entry.state == RecordState::Quarantined;
    is_reviewed.then(|| {
        let finding = Finding::new(WaitingReason::Key, None, describe_blocker(id, text));
        finding.with_remedy(format!("decide about that record: fieldsync show {id}"))
    })
}

/// An admin has to act.
fn check_stop(device: &DeviceFacts<'_>) -> Option<Finding> {
    let PlannerFacts { phase, until, .. } = device.planner;
    let phase = if device.backlog.paused { Phase::Paused } else { phase };
    let reason = match phase {
        Phase::Paused => WaitingReason::Paused,
        Phase::Misconfigured => WaitingReason::Misconfigured,
        Phase::AuthRequired => WaitingReason::AuthRequired,
        _ => return None,
    };
    let stopped = DeviceFacts { planner: PlannerFacts { phase, ..device.planner }, ..*device };
    let until = until.filter(|until| phase != Phase::Paused && *until > device.now);
    let Finding { text, remedy, .. } = Finding::of_device(reason, until, find_obstacle(&stopped)?);
    let again = until.map(|until| format!(" The daemon tries again at {}.", format_time(until, device.now)));
    Some(Finding { reason, until, text: text + &again.unwrap_or_default(), remedy })
}

/// Its batch was sent, and the outcome is not known.
fn check_outcome(facts: &RecordFacts<'_>, device: &DeviceFacts<'_>) -> Option<Finding> {
    let phase = facts.record.batch_phase?;
    let text = "It was sent, but no clear response came: the daemon asks the server for the outcome.";
    let is_unclear = matches!(phase, BatchPhase::Unclear | BatchPhase::InFlight);
    is_unclear.then(|| with_device_obstacle(Finding::new(WaitingReason::Outcome, None, text), device))
}

/// An earlier record of its key failed.
fn check_blocker(facts: &RecordFacts<'_>, device: &DeviceFacts<'_>) -> Option<Finding> {
    let id = facts.record.entry.blocked_by?;
    let blocker = facts.blocker;
    let due = blocker.and_then(|blocker| next_attempt(&blocker.entry, device.now));
    let text = match blocker {
        Some(RecordStanding { batch_phase: Some(BatchPhase::InFlight), .. }) => {
            "failed and is being sent again.".to_owned()
        }
        Some(RecordStanding { batch_phase: Some(BatchPhase::Unclear), .. }) => {
            "was sent, and its outcome is not known yet.".to_owned()
        }
        Some(RecordStanding { entry, .. }) if entry.state == RecordState::Failed => match due {
            Some(due) => format!("failed and is retried at {}.", format_time(due, device.now)),
            None => "failed and is retried first.".to_owned(),
        },
        _ => "goes first.".to_owned(),
    };
    let finding = Finding::new(WaitingReason::Key, due, describe_blocker(id, &text));
    let finding = finding.with_remedy(format!("see that record: fieldsync show {id}"));
    Some(with_device_obstacle(finding, device))
}

/// The server cannot be reached, or must not be.
fn check_link(device: &DeviceFacts<'_>) -> Option<Finding> {
    let phase = device.planner.phase;
    let obstacle = find_obstacle(device).filter(|_| matches!(phase, Phase::Offline | Phase::Deferred))?;
    let reason = match (phase, obstacle.reason) {
        (Phase::Offline, _) => WaitingReason::Offline,
        (_, SyncReason::Battery) => WaitingReason::Battery,
        _ => WaitingReason::Metered,
    };
    Some(Finding::of_device(reason, None, obstacle))
}

/// Its batch is denied while others succeed.
fn check_denials(entry: &ManifestEntry, device: &DeviceFacts<'_>) -> Option<Finding> {
    let is_its = |set: &&DeniedSet| Some(set.batch_id) == entry.batch_id;
    let set = device.planner.denied.iter().find(is_its)?;
    let records = if set.records == 1 { "1 record".to_owned() } else { format!("{} records", set.records) };
    let status = set.error.http_status.map_or(String::new(), |status| format!(", HTTP {status}"));
    let text = format!(
        "Its batch of {records} is refused again and again while others get through ({}{status}). The daemon \
         searches for the record that is the reason.",
        set.error.class
    );
    let remedy = format!(
        "to decide about this one now, an admin marks it for review: fieldsync quarantine add {}",
        entry.id
    );
    let until = device.planner.until.filter(|until| *until > device.now);
    Some(Finding::new(WaitingReason::Backoff, until, text).with_remedy(remedy))
}

/// The wait that ends last, of those with a known end.
fn latest_wait(entry: &ManifestEntry, device: &DeviceFacts<'_>) -> Option<Finding> {
    let due = next_attempt(entry, device.now);
    if let Some(held) = check_held(entry, device, due) {
        return Some(held);
    }
    let own = due.map(|due| {
        let text = format!("The last attempt failed; the next one is at {}.", format_time(due, device.now));
        Finding::new(WaitingReason::Backoff, Some(due), text).with_remedy(TRY_NOW)
    });
    let own_until = due.map(|due| due.saturating_add(CLOCK_ROUNDING_MS));
    device_wait(device).filter(|wait| wait.until > own_until).or(own)
}

/// The server did not apply it, because it did not apply an earlier one of its key.
fn check_held(entry: &ManifestEntry, device: &DeviceFacts<'_>, due: Option<u64>) -> Option<Finding> {
    let is_held = entry.last_error.as_ref().is_some_and(|error| error.code.as_deref() == Some(HELD_CODE));
    let device_until = device.planner.until.filter(|until| *until > device.now);
    let until = due.into_iter().chain(device_until).max().filter(|_| is_held)?;
    let text = format!(
        "An earlier record of its key was not applied and goes first; the next attempt is at {}.",
        format_time(until, device.now)
    );
    Some(Finding::new(WaitingReason::Key, Some(until), text).with_remedy(HELD_REMEDY))
}

/// The whole device waits for a known time.
fn device_wait(device: &DeviceFacts<'_>) -> Option<Finding> {
    let PlannerFacts { phase, until, wait_cause, .. } = device.planner;
    let until = until.filter(|until| phase == Phase::Waiting && *until > device.now)?;
    let at = format_time(until, device.now);
    let (reason, text) = match wait_cause? {
        WaitCause::Disk => return None,
        WaitCause::BackOff => {
            (WaitingReason::Backoff, format!("Sending failed; the next attempt is at {at}."))
        }
        WaitCause::ServerAsked => {
            (WaitingReason::ServerWait, format!("The server asked to wait until {at}."))
        }
        WaitCause::Breaker => (
            WaitingReason::Breaker,
            format!("The server failed several times in a row; the next attempt is at {at}."),
        ),
    };
    let obstacle = find_obstacle(device)?;
    let cause = obstacle.cause();
    let space = if cause.is_empty() { "" } else { " " };
    Some(Finding {
        reason,
        until: Some(until),
        text: format!("{text}{space}{cause}"),
        remedy: obstacle.remedy,
    })
}

fn next_batch(facts: &RecordFacts<'_>) -> Finding {
    let text = if facts.record.batch_phase.is_some() {
        "Waiting until its batch is sent again."
    } else {
        "Waiting for the next batch."
    };
    Finding::new(WaitingReason::NextBatch, None, text)
}

/// Adds what keeps the device from sending while a record waits for something else first.
fn with_device_obstacle(finding: Finding, device: &DeviceFacts<'_>) -> Finding {
    let Some(obstacle) = check_link(device).or_else(|| device_wait(device)) else { return finding };
    Finding {
        text: format!("{} {}", finding.text, obstacle.text),
        remedy: obstacle.remedy.or(finding.remedy),
        ..finding
    }
}

fn describe_blocker(id: RecordId, text: &str) -> String {
    format!("An earlier record of its key, {id}, {text}")
}

/// When a record is retried, if that is in the future.
fn next_attempt(entry: &ManifestEntry, now: u64) -> Option<u64> {
    entry.next_attempt_at.filter(|due| *due > now)
}

/// `10:32:05 UTC`; with the date where that is not today's.
fn format_time(at: u64, now: u64) -> String {
    let (text, today) = (rfc3339(at), rfc3339(now));
    let (date, clock) = text.split_once('T').unwrap_or_default();
    let clock = clock.split('.').next().unwrap_or_default();
    if today.starts_with(date) { format!("{clock} UTC") } else { format!("{date} {clock} UTC") }
}
