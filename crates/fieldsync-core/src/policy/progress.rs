//! Progress in records, and the sentence that people read.

use std::path::Path;
use std::time::Duration;

use crate::model::{Backlog, Deferral, DeniedSet, DiskState, Link, LinkState, Phase};

/// The progress of a run, which lasts from the first waiting record until none is left.
///
/// Neither `done` nor `total` decreases during a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    active: bool,
    settled_before: u64,
    synced_before: u64,
    /// Records settled in this run.
    pub done: u64,
    /// `done` plus the records that still have to be sent.
    pub total: u64,
    /// Records that the server confirmed in this run.
    pub synced: u64,
}

impl Progress {
    /// Updates the progress from the backlog. Returns whether a run began.
    pub fn update(&mut self, backlog: &Backlog) -> bool {
        let to_go = backlog.to_go();
        let begins = !self.active && to_go > 0;
        if begins {
            *self = Self {
                active: true,
                settled_before: backlog.settled_total,
                synced_before: backlog.synced_total,
                ..Self::default()
            };
        }
        if self.active {
            self.done = self.done.max(backlog.settled_total - self.settled_before);
            self.synced = backlog.synced_total - self.synced_before;
            self.total = self.total.max(self.done + to_go);
            self.active = to_go > 0;
        }
        if !self.active {
            self.total = self.done;
        }
        begins
    }
}

/// The sentence of the status, of systemd's `STATUS=` and of every progress bar.
pub fn describe_progress(
    phase: Phase,
    progress: &Progress,
    backlog: &Backlog,
    link: &Link,
    refused_here: bool,
    wait: Option<Duration>,
) -> String {
    let review = backlog.quarantined;
    let reviews = match review {
        0 => String::new(),
        1 => " (1 needs review)".to_owned(),
        n => format!(" ({n} need review)"),
    };
    let waiting = count_records(backlog.to_go(), "waiting");
    if backlog.storage.disk == DiskState::Failing {
        return describe_failing_disk(backlog);
    }
    let text = match phase {
        Phase::Idle if progress.total == 0 => format!("Nothing to sync{reviews}"),
        Phase::Idle if progress.synced < progress.total => {
            format!("{} of {} synced{reviews}", progress.synced, count_records(progress.total, "").trim_end())
        }
        Phase::Idle if progress.total == 1 => format!("1 record synced{reviews}"),
        Phase::Idle => format!("All {} records synced{reviews}", progress.total),
        Phase::Syncing => {
            format!("Syncing {} of {}{reviews}", progress.done, count_records(progress.total, "").trim_end())
        }
        Phase::Waiting => match wait {
            Some(wait) => format!("Waiting {} s to retry: {waiting}", wait.as_millis().div_ceil(1000).max(1)),
            None => format!("Waiting for review: {waiting}{reviews}"),
        },
        Phase::Offline if link.state == LinkState::CaptivePortal => {
            format!("Offline, a captive portal answers: {waiting}")
        }
        Phase::Offline => format!("Offline: {waiting}"),
        Phase::Paused => format!("Paused: {waiting}"),
        Phase::Deferred => match link.deferral {
            Some(Deferral::Metered) => format!("Deferred on a metered network: {waiting}"),
            Some(Deferral::Battery) => format!("Deferred until the battery is charged: {waiting}"),
            None => format!("Deferred: {waiting}"),
        },
        // No request was sent: a local file cannot be used.
        Phase::AuthRequired if refused_here => format!("The credential cannot be used: {waiting}"),
        Phase::Misconfigured if refused_here => {
            format!("The certificates or the proxy need attention: {waiting}")
        }
        Phase::AuthRequired => format!("The server does not accept the credential: {waiting}"),
        Phase::Misconfigured => format!("The server address needs attention: {waiting}"),
    };
    text + disk_note(backlog)
}

/// The sentence for a device that is not set up, with or without records.
pub fn describe_missing_server(config: &Path, backlog: &Backlog) -> String {
    let waiting = match backlog.to_go() {
        0 => String::new(),
        records => format!("; {}", count_records(records, "waiting")),
    };
    if backlog.storage.disk == DiskState::Failing {
        return describe_failing_disk(backlog);
    }
    format!("No server is set: set server.url in {}{waiting}{}", config.display(), disk_note(backlog))
}

fn describe_failing_disk(backlog: &Backlog) -> String {
    let kept = backlog.to_go() + backlog.quarantined;
    let are = if kept == 1 { "is" } else { "are" };
    format!("The disk gives errors: no records are taken or sent; {}{are} kept", count_records(kept, ""))
}

fn disk_note(backlog: &Backlog) -> &'static str {
    match backlog.storage.disk {
        DiskState::Full => " (the disk is full: no new records are taken)",
        DiskState::Ok | DiskState::Failing => "",
    }
}

/// The text after the sentence while batches are denied and others succeed.
pub fn denied_note(denied: &[DeniedSet]) -> String {
    let Some(first) = denied.first() else { return String::new() };
    let records: usize = denied.iter().map(|set| set.records).sum();
    let status = first.error.http_status.map_or(String::new(), |status| format!(" with HTTP {status}"));
    let (of, are) = if records == 1 { ("1 record", "is") } else { ("records", "are") };
    let how_many = if records == 1 { String::new() } else { format!("{records} ") };
    format!(" ({how_many}{of} {are} turned away{status} while others get through)")
}

fn count_records(count: u64, what: &str) -> String {
    let noun = if count == 1 { "record" } else { "records" };
    format!("{count} {noun} {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backlog(pending: u64, settled: u64, quarantined: u64) -> Backlog {
        Backlog {
            pending,
            quarantined,
            settled_total: settled,
            synced_total: settled - quarantined,
            ..Backlog::default()
        }
    }

    #[test]
    fn the_promised_sentences() {
        let link = Link::default();
        for (phase, done, to_go, quarantined, wait, expected) in [
            (Phase::Syncing, 45, 105, 0, None, "Syncing 45 of 150 records"),
            (Phase::Syncing, 45, 105, 2, None, "Syncing 45 of 150 records (2 need review)"),
            (Phase::Syncing, 0, 1, 0, None, "Syncing 0 of 1 record"),
            (Phase::Idle, 150, 0, 0, None, "All 150 records synced"),
            (Phase::Idle, 1, 0, 0, None, "1 record synced"),
            (Phase::Idle, 1, 0, 1, None, "0 of 1 record synced (1 needs review)"),
            (Phase::Idle, 150, 0, 1, None, "149 of 150 records synced (1 needs review)"),
            (Phase::Offline, 45, 105, 0, None, "Offline: 105 records waiting"),
            (Phase::Waiting, 45, 105, 0, Some(31_200), "Waiting 32 s to retry: 105 records waiting"),
            (Phase::Waiting, 45, 105, 0, Some(0), "Waiting 1 s to retry: 105 records waiting"),
            (Phase::Paused, 0, 1, 0, None, "Paused: 1 record waiting"),
        ] {
            let mut progress = Progress::default();
            progress.update(&backlog(done + to_go, 0, 0));
            let now = backlog(to_go, done, quarantined);
            progress.update(&now);
            let text =
                describe_progress(phase, &progress, &now, &link, false, wait.map(Duration::from_millis));
            assert_eq!(text, expected);
        }
        let mut sick = backlog(412, 0, 0);
        sick.storage.disk = DiskState::Failing;
        let failing = describe_progress(Phase::Syncing, &Progress::default(), &sick, &link, false, None);
        assert_eq!(failing, "The disk gives errors: no records are taken or sent; 412 records are kept");
        sick.storage.disk = DiskState::Full;
        let full = describe_progress(Phase::Offline, &Progress::default(), &sick, &link, false, None);
        assert_eq!(full, "Offline: 412 records waiting (the disk is full: no new records are taken)");
        let waits = |phase, here| {
            describe_progress(phase, &Progress::default(), &backlog(3, 0, 0), &link, here, None)
        };
        for (phase, here, expected) in [
            (Phase::AuthRequired, false, "The server does not accept the credential: 3 records waiting"),
            (Phase::AuthRequired, true, "The credential cannot be used: 3 records waiting"),
            (Phase::Misconfigured, false, "The server address needs attention: 3 records waiting"),
            (Phase::Misconfigured, true, "The certificates or the proxy need attention: 3 records waiting"),
        ] {
            assert_eq!(waits(phase, here), expected);
        }
        let unset = |records| describe_missing_server(Path::new("/etc/f.toml"), &backlog(records, 0, 0));
        assert_eq!(unset(0), "No server is set: set server.url in /etc/f.toml");
        assert_eq!(unset(3), "No server is set: set server.url in /etc/f.toml; 3 records waiting");
        let nothing =
            describe_progress(Phase::Idle, &Progress::default(), &Backlog::default(), &link, false, None);
        assert_eq!(nothing, "Nothing to sync");
        for (deferral, expected) in [
            (Deferral::Metered, "Deferred on a metered network: 1 record waiting"),
            (Deferral::Battery, "Deferred until the battery is charged: 1 record waiting"),
        ] {
            let link = Link { deferral: Some(deferral), ..Link::default() };
            let text = describe_progress(
                Phase::Deferred,
                &Progress::default(),
                &backlog(1, 0, 0),
                &link,
                false,
                None,
            );
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn a_run_ends_when_nothing_is_left_and_the_next_counts_from_zero() {
        let mut progress = Progress::default();
        assert!(progress.update(&backlog(10, 0, 0)));
        assert!(!progress.update(&backlog(4, 6, 0)));
        assert!(!progress.update(&backlog(0, 10, 0)));
        assert_eq!((progress.done, progress.total), (10, 10));
        assert!(progress.update(&backlog(3, 10, 0)));
        assert_eq!((progress.done, progress.total), (0, 3));
    }

    proptest::proptest! {
        #[test]
        fn neither_done_nor_total_decreases_during_a_run(
            steps in proptest::collection::vec((0u64..5, 0u64..5), 1..60),
        ) {
            let (mut progress, mut to_go, mut settled) = (Progress::default(), 1, 0);
            progress.update(&backlog(to_go, settled, 0));
            let mut before = (progress.done, progress.total);
            for (arrive, settle) in steps {
                let settle = settle.min(to_go);
                to_go = to_go + arrive - settle;
                settled += settle;
                let began = progress.update(&backlog(to_go, settled, 0));
                let now = (progress.done, progress.total);
                if !began {
                    proptest::prop_assert!(now.0 >= before.0 && now.1 >= before.1, "{before:?} → {now:?}");
                }
                before = now;
            }
        }
    }
}
