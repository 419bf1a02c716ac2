//! Why the device does not send although records wait, and what to do about it.

use super::connect::find_link_fault;
use super::obstacle::Obstacle;
use super::responses::{describe_failure, describe_stop, find_stop};
use super::{DeviceFacts, REVIEW};
use crate::api::SyncReason;
use crate::clock::weekday_text;
use crate::model::{Deferral, Phase, WaitCause};

/// What keeps the device from sending, if anything does.
pub(in crate::policy) fn find_obstacle(device: &DeviceFacts<'_>) -> Option<Obstacle> {
    let obstacle = match device.planner.phase {
        Phase::Idle => return None,
        // Until another result comes, the last one counts.
        Phase::Syncing => find_stop(device)?,
        Phase::Waiting => find_wait(device),
        Phase::Offline => find_link_fault(device),
        Phase::Paused => describe_pause(device),
        Phase::Deferred => describe_deferral(device),
        Phase::AuthRequired => describe_stop(device, SyncReason::AuthRequired),
        Phase::Misconfigured => describe_stop(device, SyncReason::Misconfigured),
    };
    Some(obstacle.with_places(device.sources))
}

fn describe_pause(device: &DeviceFacts<'_>) -> Obstacle {
    let by = device.paused_by.map_or(String::new(), |user| format!(" by {user}"));
    let pause = device.backlog.pause;
    let since =
        pause.map_or(String::new(), |pause| format!(" since {}", weekday_text(pause.since, device.now)));
    let until = pause.and_then(|pause| pause.until);
    let until = until.map_or(String::new(), |until| format!(" until {}", weekday_text(until, device.now)));
    Obstacle::new(
        SyncReason::Paused,
        format!("Paused{by}{since}{until}"),
        "",
        "to send again: fieldsync resume",
    )
}

fn describe_deferral(device: &DeviceFacts<'_>) -> Obstacle {
    match device.link.deferral {
        Some(Deferral::Battery) => Obstacle::new(
            SyncReason::Battery,
            "Waiting on purpose until the battery is charged",
            "",
            "charge the device; to send now anyway, once: fieldsync sync",
        ),
        Some(Deferral::Metered) | None => Obstacle::new(
            SyncReason::Metered,
            "Waiting on purpose because the network is metered",
            "",
            "use a network that is not metered; to send now anyway, once: fieldsync sync",
        ),
    }
}

/// A wait for a time, or for the review of another record.
fn find_wait(device: &DeviceFacts<'_>) -> Obstacle {
    if device.planner.wait_cause == Some(WaitCause::Disk) {
        return Obstacle::new(
            SyncReason::DiskFull,
            "Waiting for room on the disk",
            "",
            "free some space on the disk under the queue; fieldsync doctor names it",
        );
    }
    if let Some(stop) = find_stop(device) {
        return stop;
    }
    let Some(until) = device.planner.until else { return describe_hold(device) };
    let seconds = until.saturating_sub(device.now).div_ceil(1000).max(1);
    let (reason, detail, remedy) = describe_failure(device);
    let headline = format!("Waiting {seconds} s to retry");
    Obstacle { is_timed: true, ..Obstacle::new(reason, headline, detail, remedy) }
}

fn describe_hold(device: &DeviceFacts<'_>) -> Obstacle {
    if device.backlog.quarantined == 0 {
        return Obstacle::new(SyncReason::Retry, "Waiting", "", "fieldsync doctor says why");
    }
    let detail = "An earlier record of the same key needs review and goes first.";
    Obstacle::new(SyncReason::Held, "Waiting for review", detail, REVIEW)
}
