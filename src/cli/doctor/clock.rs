//! Whether the clock of the device is right. Certificates and displayed times depend on it, records do not.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::finding::Finding;
use crate::cli::format::duration;
use crate::clock::{millis, rfc3339, wall_ms};

/// A smaller difference does no harm.
const TOLERANCE_MS: u64 = 5 * 60 * 1000;
/// The modification time of a program may be off by a time zone.
const DAY_MS: u64 = 24 * 3600 * 1000;
/// systemd-timesyncd creates the file when it has set the clock.
const TIMESYNC_DIR: &str = "/run/systemd/timesync";
const SYNCHRONIZED_FILE: &str = "synchronized";
const SET_CLOCK: &str = "set the clock: sudo timedatectl set-ntp true";

pub(super) fn check_clock(server: Option<Duration>) -> Vec<Finding> {
    let timesync = Path::new(TIMESYNC_DIR);
    let is_unsynchronized = timesync.exists() && !timesync.join(SYNCHRONIZED_FILE).exists();
    vec![judge_clock(wall_ms(), installed_at(), server.map(millis), is_unsynchronized)]
}

/// When this program was made, in milliseconds since 1970: a correct clock shows a later time.
fn installed_at() -> Option<u64> {
    let program = std::env::current_exe().ok()?.metadata().ok()?;
    program.modified().ok()?.duration_since(UNIX_EPOCH).ok().map(millis)
}

/// `is_unsynchronized`: the time client has not reached its server since the device started.
fn judge_clock(now: u64, installed: Option<u64>, server: Option<u64>, is_unsynchronized: bool) -> Finding {
    let shown = rfc3339(now);
    if let Some(installed) = installed.filter(|installed| now + DAY_MS < *installed) {
        return Finding::problem(
            format!("the clock shows {shown}, but this program was made on {}", rfc3339(installed)),
            SET_CLOCK,
        );
    }
    match server {
        Some(server) if now.abs_diff(server) > TOLERANCE_MS => {
            let direction = if now < server { "behind" } else { "ahead of" };
            Finding::warning(
                format!(
                    "the clock is {} {direction} the server's: it shows {shown}",
                    duration(now.abs_diff(server))
                ),
                SET_CLOCK,
            )
        }
        Some(_) => Finding::ok("the clock agrees with the server's"),
        None if is_unsynchronized => Finding::unchecked(
            format!(
                "the clock shows {shown}; the server sent no time to compare it with, and the time client has not reached its own server"
            ),
            "timedatectl timesync-status",
        ),
        None => Finding::unchecked(
            format!("the clock shows {shown}; the server sent no time to compare it with"),
            "compare it with another clock: timedatectl",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::CheckResult;
    use super::*;

    #[test]
    fn the_clock_is_compared_with_the_server_and_the_program() {
        let now = 1_772_352_930_120;
        let minute = 60_000;
        for (installed, server, result, words) in [
            (Some(now - 10 * DAY_MS), Some(now + minute), CheckResult::Ok, "agrees"),
            (None, Some(now + 6 * minute), CheckResult::Warning, "6 min behind"),
            (None, Some(now - 6 * minute), CheckResult::Warning, "6 min ahead"),
            (Some(now + 2 * DAY_MS), Some(now), CheckResult::Problem, "was made on"),
            (Some(now + minute), None, CheckResult::CouldNotCheck, "sent no time"),
        ] {
            let finding = judge_clock(now, installed, server, false);
            assert_eq!(finding.result, result, "{finding:?}");
            assert!(finding.text.contains(words), "{finding:?}");
        }
    }
}
