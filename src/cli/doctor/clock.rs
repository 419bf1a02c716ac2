//! Whether the clock of the device can be believed: certificates and people depend on it, records do not.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::finding::Finding;
use crate::cli::words::span;
use crate::clock::{millis, rfc3339, wall_ms};

/// Less is noticed by nobody.
const TOLERANCE_MS: u64 = 5 * 60 * 1000;
/// Programs are unpacked in every time zone.
const DAY_MS: u64 = 24 * 3600 * 1000;
/// systemd's time client makes the file once it knows the time.
const TIME_CLIENT: &str = "/run/systemd/timesync";
const KNOWS: &str = "synchronized";
const SET: &str = "set the clock: sudo timedatectl set-ntp true";

pub(super) fn check(server: Option<Duration>) -> Vec<Finding> {
    let client = Path::new(TIME_CLIENT);
    let waits = client.exists() && !client.join(KNOWS).exists();
    vec![judge(wall_ms(), installed_at(), server.map(millis), waits)]
}

/// This program is not older than the clock.
fn installed_at() -> Option<u64> {
    let program = std::env::current_exe().ok()?.metadata().ok()?;
    program.modified().ok()?.duration_since(UNIX_EPOCH).ok().map(millis)
}

/// `waits`: the time client has not heard from its server since the start.
fn judge(now: u64, installed: Option<u64>, server: Option<u64>, waits: bool) -> Finding {
    let shows = rfc3339(now);
    if let Some(installed) = installed.filter(|installed| now + DAY_MS < *installed) {
        return Finding::problem(
            format!("the clock shows {shows}, and this program was made on {}", rfc3339(installed)),
            SET,
        );
    }
    match server {
        Some(server) if now.abs_diff(server) > TOLERANCE_MS => {
            let direction = if now < server { "behind" } else { "ahead of" };
            Finding::warning(
                format!(
                    "the clock is {} {direction} the server's: it shows {shows}",
                    span(now.abs_diff(server))
                ),
                SET,
            )
        }
        Some(_) => Finding::ok("the clock agrees with the server's"),
        None if waits => Finding::unchecked(
            format!(
                "the clock shows {shows}; no server tells the time, and the time client has not heard from its own"
            ),
            "timedatectl timesync-status",
        ),
        None => Finding::unchecked(
            format!("the clock shows {shows}; no server tells what time it has"),
            "compare it with another: timedatectl",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Outcome;
    use super::*;

    #[test]
    fn a_clock_is_held_against_the_server_and_the_program() {
        let now = 1_772_352_930_120;
        let minute = 60_000;
        for (installed, server, result, words) in [
            (Some(now - 10 * DAY_MS), Some(now + minute), Outcome::Ok, "agrees"),
            (None, Some(now + 6 * minute), Outcome::Warning, "6 min behind"),
            (None, Some(now - 6 * minute), Outcome::Warning, "6 min ahead"),
            (Some(now + 2 * DAY_MS), Some(now), Outcome::Problem, "was made on"),
            (Some(now + minute), None, Outcome::CouldNotCheck, "no server tells"),
        ] {
            let finding = judge(now, installed, server, false);
            assert_eq!(finding.result, result, "{finding:?}");
            assert!(finding.text.contains(words), "{finding:?}");
        }
    }
}
