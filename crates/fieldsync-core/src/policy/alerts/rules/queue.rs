//! Conditions of the queue and its disk.

use crate::api::AlertSeverity;
use crate::clock::{millis, minute_text};
use crate::config::{Size, Telemetry};
use crate::model::DiskState;
use crate::policy::alerts::durations::Durations;
use crate::policy::alerts::facts::AlertFacts;
use crate::policy::alerts::judgement::{AlertText, Judgement, Level};

const MIB_SHIFT: u32 = 20;

/// Stays until a person acknowledges it.
pub(super) fn judge_damage(facts: &AlertFacts<'_>) -> Judgement {
    let damage = &facts.backlog.storage.damage;
    let Some(first) = damage.first() else { return Judgement::CLEAR };
    let all: Vec<String> = damage
        .iter()
        .map(|damage| {
            let lost = match damage.lost {
                0 => "none are known to be lost".to_owned(),
                1 => "1 is known to be lost".to_owned(),
                lost => format!("{lost} are known to be lost"),
            };
            let records = if damage.salvaged == 1 { "record was" } else { "records were" };
            format!(
                "the store was damaged ({}): {} {records} salvaged and {lost}; the damaged file is kept as {}",
                damage.reason, damage.salvaged, damage.kept_as
            )
        })
        .collect();
    let message = all.join("; earlier, ").replace('\n', " ");
    let remedy = "when you have read this: sudo fieldsync store acknowledge";
    Judgement {
        since: Some(first.found_at),
        ..Judgement::when(true, || AlertText::critical(message, remedy))
    }
}

/// The store has a margin of its own between full and not full.
pub(super) fn judge_full_disk(facts: &AlertFacts<'_>) -> Judgement {
    Judgement::when(facts.backlog.storage.disk == DiskState::Full, || {
        AlertText::critical(
            "the disk is full: no new records are taken; those in the queue are still sent",
            "free some disk space; to see where it is used: sudo fieldsync doctor",
        )
    })
}

pub(super) fn judge_failing_disk(facts: &AlertFacts<'_>) -> Judgement {
    Judgement::when(facts.backlog.storage.disk == DiskState::Failing, || {
        AlertText::critical(
            "the disk reports errors: no records are taken and none are sent; those in the queue stay on the disk",
            "have the disk checked; its errors are listed by: sudo journalctl --dmesg",
        )
    })
}

pub(super) fn judge_disk_space(facts: &AlertFacts<'_>, alerts: &Telemetry) -> Judgement {
    let Size(threshold) = alerts.alert_disk_free;
    let Some(free) = facts.backlog.storage.disk_free_bytes.filter(|_| threshold > 0) else {
        return Judgement::CLEAR;
    };
    Judgement::at(Level::of_minimum(free, threshold), || {
        AlertText::warning(
            format!(
                "the disk of the queue has {} MiB of free space left: records are refused when it is full",
                free >> MIB_SHIFT
            ),
            "free some disk space; to see where it is used: sudo fieldsync doctor",
        )
    })
}

pub(super) fn judge_reviews(facts: &AlertFacts<'_>, alerts: &Telemetry) -> Judgement {
    let (review, threshold) = (facts.backlog.quarantined, alerts.alert_quarantined);
    if threshold == 0 {
        return Judgement::CLEAR;
    }
    Judgement::at(Level::of_maximum(review, threshold), || {
        let records =
            if review == 1 { "1 record needs".to_owned() } else { format!("{review} records need") };
        AlertText::warning(
            format!("{records} review: they are kept, and not sent until a person decides about them"),
            "fieldsync quarantine list",
        )
    })
}

/// A queue near its limit swings with each batch: the alert ends after this time, or once less than half of the threshold
/// is used.
const FILL_END_DELAY_MS: u64 = 5 * 60 * 1000;

/// A queue that is full is reported whatever the percentage.
pub(super) fn judge_fill(facts: &AlertFacts<'_>, alerts: &Telemetry) -> Judgement {
    let queue = facts.queue;
    let percent = u64::from(alerts.alert_queue_percent);
    if percent == 0 {
        return Judgement::CLEAR;
    }
    let threshold = u128::from(queue.limit) * u128::from(percent);
    let threshold = u64::try_from(threshold.div_ceil(100)).unwrap_or(u64::MAX);
    let level = if queue.is_full { Level::Beyond } else { Level::of_maximum(queue.used, threshold.max(1)) };
    let judgement = Judgement::at(level, || {
        let remedy =
            "find out why less is sent than comes in: sudo fieldsync doctor; or raise the limit in [queue]";
        let text = AlertText::warning(queue.message.clone(), remedy);
        let severity = if queue.is_full { AlertSeverity::Critical } else { text.severity };
        AlertText { severity, ..text }
    });
    let end_delay = if queue.used.saturating_mul(2) < threshold { 0 } else { FILL_END_DELAY_MS };
    Judgement { end_delay, ..judgement }
}

pub(super) fn judge_wait(facts: &AlertFacts<'_>, durations: &Durations, alerts: &Telemetry) -> Judgement {
    let limit = millis(alerts.alert_oldest_pending.0);
    let Some(since) = durations.waiting_since().filter(|_| limit > 0) else { return Judgement::CLEAR };
    Judgement::lasting(facts.now.steady, since, limit, || {
        AlertText::warning(
            format!(
                "the oldest record has been waiting since {}: it is kept until it is sent",
                minute_text(facts.now.to_wall_ms(since))
            ),
            "to see why: fieldsync status; to check connection, server and credential: sudo fieldsync doctor",
        )
    })
}
