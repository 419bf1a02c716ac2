//! `fieldsync status`: the summary sentence first, then the details.

use std::time::Duration;

use super::context::CommandContext;
use super::failure::CommandFailure;
use super::follow::{EventFollower, FollowEvent, Interrupt};
use super::format::{
    blocked_records, count, duration, relative, size, strip_controls, timestamp, with_spaces,
};
use super::health;
use super::json_text;
use super::meter::StatusMeter;
use super::table::error_text;
use crate::api::{Caller, CallerQueue, Counts, OpenEnum, QueueUse, Status};
use crate::client::{ServerSentEvent, decode_json};
use crate::clock::wall_ms;
use crate::exit;
use crate::model::{Blocker, DiskState};

/// Ctrl-C ends the watch, not a time limit.
const NO_LIMIT: Duration = Duration::MAX;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Users see the state of their own records, and what the device does; admins see
the counts of the whole device. --json and --watch show the whole status; with
both, each line is a whole status.

Examples:
  fieldsync status --watch
  fieldsync status --check || echo look at this device
  fieldsync status --json | jq -r .sync.text")]
pub(crate) struct StatusArgs {
    /// Follow the status until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Show the counts of the whole device instead of your own records; admins always see them
    #[arg(long)]
    all: bool,
    /// Print one line for a monitoring program; exit code 0: well, 1: a person must act, 2: records wait too long
    #[arg(long, conflicts_with_all = ["watch", "all"])]
    check: bool,
}

pub(crate) async fn run(args: &StatusArgs, context: &mut CommandContext<'_>) -> Result<u8, CommandFailure> {
    if args.watch {
        return watch_status(context).await;
    }
    let response = context.client.get("/v1/status").await?;
    if args.check {
        return health::print_health(context, &decode_json(&response)?);
    }
    context.print_response(&response, |context, status: Status| {
        describe_status(&status, args.all, wall_ms())
            .into_iter()
            .try_for_each(|line| context.print_wrapped(line))
    })?;
    Ok(exit::DONE)
}

async fn watch_status(context: &mut CommandContext<'_>) -> Result<u8, CommandFailure> {
    let client = context.client.clone();
    let mut interrupt = Interrupt::new()?;
    let mut follower = EventFollower::open(&client, NO_LIMIT).await?;
    let mut meter = StatusMeter::new(context);
    loop {
        let news = tokio::select! {
            () = interrupt.wait() => break,
            news = follower.next() => news?,
        };
        match news {
            FollowEvent::Disconnected => {
                meter.print_note("The connection to the daemon was lost; waiting for it to come back.");
            }
            FollowEvent::Reconnected => meter.print_note("The daemon is back."),
            FollowEvent::Event(event) if has_status(&event) => {
                if context.json {
                    context.print_line_now(json_text::compact_json(&event.data))?;
                } else {
                    meter.show_status(context, &decode_json(event.data.as_bytes())?)?;
                }
            }
            FollowEvent::Event(_) => {}
        }
    }
    meter.finish(context)?;
    Ok(exit::DONE)
}

pub(crate) fn has_status(event: &ServerSentEvent) -> bool {
    matches!(event.name.as_str(), "status" | "progress")
}

/// With the counts of the whole device for admins and with `all`, else with those of the caller's records.
fn describe_status(status: &Status, all: bool, now: u64) -> Vec<String> {
    let own = status.caller.filter(|caller| !all && !caller.admin).and_then(own_records);
    let device = strip_controls(&status.sync.text).into_owned();
    let mut lines = match &own {
        Some((counts, _)) => vec![own_sentence(counts), format!("The device: {device}"), String::new()],
        None => vec![device, String::new()],
    };
    let mut field = |name: &str, value: String| lines.push(format!("{name:<13} {value}"));
    if let Some((records, queue)) = &own {
        field("Your records", describe_counts(records));
        field("Your queue", format!("{} of {}", size(queue.bytes), size(queue.max_bytes)));
    } else {
        field("Records", describe_counts(&status.records));
        field("Queue", describe_queue(status, now));
    }
    if let Some(disk) = describe_disk(&status.queue) {
        field("Disk", disk);
    }
    for blocker in &status.queue.blockers {
        field("Blocking", describe_blocker(blocker));
    }
    if let Some(batch) = &status.sync.batch {
        field(
            "In flight",
            format!(
                "batch {}, {}, try {}",
                batch.sequence,
                count(batch.records as u64, "record"),
                batch.attempt
            ),
        );
    }
    let batching = &status.batching;
    let next = count(batching.size as u64, "record");
    field("Next batch", format!("{next} ({})", strip_controls(&batching.explain_size())));
    if let Some(each) = batching.ms_per_record {
        let budget = duration(batching.time_budget_ms);
        field(
            "Pace",
            format!("{} for each record; a batch should take {budget} at most", exact_duration(each)),
        );
    }
    field("Breaker", describe_breaker(status, now));
    field("Connectivity", describe_connectivity(status, now));
    if let Some(seconds) = status.sync.eta_s {
        field("Time left", format!("about {}", duration(seconds.saturating_mul(1000))));
    }
    if let Some(at) = status.sync.last_success_at {
        field("Last success", timestamp(at, now));
    }
    if let Some(error) = &status.sync.last_error {
        field("Last error", error_text(error));
        field("", timestamp(error.at, now));
    }
    let daemon = format!("{}, started {}", strip_controls(&status.version), relative(status.started_at, now));
    field("Daemon", daemon);
    let name = strip_controls(&status.device_name);
    field(
        "Device",
        if name.is_empty() { status.device_id.to_string() } else { format!("{name} ({})", status.device_id) },
    );
    for alert in &status.alerts {
        lines.push(String::new());
        lines.push(format!(
            "ALERT {}: {} (since {})",
            strip_controls(&alert.alert.to_string()),
            strip_controls(&alert.message),
            relative(alert.since, now)
        ));
    }
    let to_review = own.map_or(status.records, |(records, _)| records).quarantined;
    if to_review > 0 {
        lines.push(String::new());
        lines.push(format!("{} to review: fieldsync quarantine list", count(to_review, "record")));
    }
    lines
}

fn own_records(caller: Caller) -> Option<(Counts, CallerQueue)> {
    caller.records.zip(caller.queue)
}

/// Summarizes the caller's own records.
fn own_sentence(records: &Counts) -> String {
    let to_go = records.pending + records.syncing + records.failed;
    let review = match records.quarantined {
        0 => String::new(),
        1 => "1 needs review".to_owned(),
        many => format!("{many} need review"),
    };
    match (to_go, records.quarantined, records.synced) {
        (0, 0, 0) => "You have no records here".to_owned(),
        (0, 0, 1) => "Your record is synced".to_owned(),
        (0, 0, synced) => format!("All {synced} of your records are synced"),
        (0, ..) => format!("Of your records, {review}; none wait to be sent"),
        (1, 0, _) => "1 of your records waits to be sent".to_owned(),
        (many, 0, _) => format!("{many} of your records wait to be sent"),
        (1, ..) => format!("1 of your records waits to be sent ({review})"),
        (many, ..) => format!("{many} of your records wait to be sent ({review})"),
    }
}

fn describe_counts(records: &Counts) -> String {
    format!(
        "{} pending, {} syncing, {} failed, {} synced, {} quarantined",
        records.pending, records.syncing, records.failed, records.synced, records.quarantined
    )
}

fn describe_queue(status: &Status, now: u64) -> String {
    let queue = &status.queue;
    let waits = queue.oldest_pending_at.map_or_else(String::new, |at| {
        let waits = duration(now.saturating_sub(at));
        format!("; the oldest record has waited {waits}")
    });
    format!("{} of {}{waits}", size(queue.bytes), size(queue.max_bytes))
}

/// Only if the disk has a problem.
fn describe_disk(queue: &QueueUse) -> Option<String> {
    let free = queue.disk_free_bytes.map_or_else(String::new, |free| format!(", {} free", size(free)));
    match &queue.disk {
        OpenEnum::Known(DiskState::Ok) => None,
        OpenEnum::Known(DiskState::Full) => Some(format!("full: no new records are accepted{free}")),
        OpenEnum::Known(DiskState::Failing) => {
            Some("reports errors: no records are accepted or sent".to_owned())
        }
        OpenEnum::Unknown(name) => Some(strip_controls(name).into_owned()),
    }
}

fn describe_blocker(blocker: &Blocker) -> String {
    let Blocker { id, key, state, blocked_count, submitter } = blocker;
    let of = match key {
        Some(key) => format!("key {}", strip_controls(key)),
        None => format!("its key, which only user {submitter} may see"),
    };
    format!("{id} ({}) blocks {} of {of}", state.name(), blocked_records(*blocked_count))
}

/// Below ten seconds in milliseconds, for rates.
fn exact_duration(ms: u64) -> String {
    if ms < 10_000 { format!("{ms} ms") } else { duration(ms) }
}

fn describe_breaker(status: &Status, now: u64) -> String {
    let breaker = &status.breaker;
    let failures = match breaker.consecutive_failures {
        0 => String::new(),
        failures => format!(", {} in a row", count(u64::from(failures), "failure")),
    };
    let retry =
        breaker.retry_at.map_or_else(String::new, |at| format!(", next request {}", relative(at, now)));
    format!("{}{failures}{retry}", with_spaces(&breaker.mode))
}

fn describe_connectivity(status: &Status, now: u64) -> String {
    let link = &status.connectivity;
    let metered = if link.metered { ", metered" } else { "" };
    let since = duration(now.saturating_sub(link.since));
    format!("{} for {since}{metered}", with_spaces(&link.state.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{run_verb, sample_status};
    use super::*;
    use crate::api::{Alert, Phase};
    use crate::client::scripted::{ScriptedDaemon, response_step};
    use crate::model::{RecordId, RecordState};

    fn syncing_status() -> Status {
        let records = Counts { pending: 105, synced: 45, quarantined: 2, ..Counts::default() };
        sample_status(Phase::Syncing, "Syncing 45 of 150 records (2 need review)", records)
    }

    #[test]
    fn the_sentence_comes_first() {
        let text = describe_status(&syncing_status(), false, 202_000).join("\n");
        let expected = "Syncing 45 of 150 records (2 need review)\n\n\
             Records       105 pending, 0 syncing, 0 failed, 45 synced, 2 quarantined\n\
             Queue         176.9 KiB of 2.0 GiB; the oldest record has waited 3 min 12 s\n\
             Next batch    23 records (learned: 27.0 s expected, 33.0 s at most; the server's limit is 1 min)\n\
             Pace          1166 ms for each record; a batch should take 45 s at most\n\
             Breaker       normal\n\
             Connectivity  online for 3 min 12 s\n\
             Time left     about 31 s\n\
             Daemon        0.1.0, started 3 min 22 s ago\n\
             Device        van-12 (00000000-0000-0000-0000-000000000000)\n\n\
             2 records to review: fieldsync quarantine list";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_user_sees_its_own_records_first_and_admins_see_the_device() {
        let records = Counts { failed: 3, quarantined: 1, ..Counts::default() };
        let queue = CallerQueue {
            records: 4,
            max_records: 300,
            bytes: 2048,
            max_bytes: 4096,
            disk_bytes: 0,
            max_disk_bytes: 0,
        };
        let caller = Caller { uid: 1000, admin: false, records: Some(records), queue: Some(queue) };
        let status = Status { caller: Some(caller), ..syncing_status() };
        let text = describe_status(&status, false, 202_000).join("\n");
        let expected = "3 of your records wait to be sent (1 needs review)\n\
             The device: Syncing 45 of 150 records (2 need review)\n\n\
             Your records  0 pending, 0 syncing, 3 failed, 0 synced, 1 quarantined\n\
             Your queue    2.0 KiB of 4.0 KiB\n";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.ends_with("1 record to review: fieldsync quarantine list"), "{text}");
        let device = describe_status(&syncing_status(), false, 202_000);
        assert_eq!(describe_status(&status, true, 202_000), device);
        let uncounted = Caller { records: None, queue: None, ..caller };
        for caller in [Caller { admin: true, ..caller }, uncounted] {
            let status = Status { caller: Some(caller), ..syncing_status() };
            assert_eq!(describe_status(&status, false, 202_000), device);
        }
    }

    #[test]
    fn a_sentence_summarizes_the_users_own_records() {
        for (to_go, quarantined, synced, expected) in [
            (0, 0, 0, "You have no records here"),
            (0, 0, 1, "Your record is synced"),
            (0, 0, 40, "All 40 of your records are synced"),
            (0, 1, 40, "Of your records, 1 needs review; none wait to be sent"),
            (1, 0, 40, "1 of your records waits to be sent"),
            (12, 2, 0, "12 of your records wait to be sent (2 need review)"),
        ] {
            let counts = Counts { pending: to_go, quarantined, synced, ..Counts::default() };
            assert_eq!(own_sentence(&counts), expected);
        }
    }

    #[test]
    fn problems_have_lines_of_their_own() {
        let mut status = syncing_status();
        assert_eq!(describe_disk(&status.queue), None);
        status.queue.disk = DiskState::Full.into();
        status.queue.disk_free_bytes = Some(2048);
        let id = RecordId::new();
        let state = RecordState::Quarantined;
        status.queue.blockers =
            vec![Blocker { id, key: Some("Acme".into()), submitter: 0, state, blocked_count: 1000 }];
        let message = "the disk is full: no new records are taken".to_owned();
        status.alerts =
            vec![Alert { alert: crate::api::AlertName::DiskFull.into(), message, since: 190_000 }];
        let text = describe_status(&status, false, 202_000).join("\n");
        for part in [
            "\nDisk          full: no new records are accepted, 2.0 KiB free\n",
            &format!("\nBlocking      {id} (QUARANTINED) blocks at least 1000 records of key Acme\n"),
            "\nALERT disk_full: the disk is full: no new records are taken (since 12 s ago)\n",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_phase_and_a_disk_state_of_a_newer_daemon_are_shown() {
        let mut newer = serde_json::to_value(syncing_status()).unwrap();
        newer["sync"]["phase"] = "hibernating".into();
        newer["queue"]["disk"] = "slow\u{1b}".into();
        let status: Status = serde_json::from_value(newer.clone()).unwrap();
        let text = describe_status(&status, false, 202_000).join("\n");
        assert!(text.contains("\nDisk          slow\u{fffd}\n"), "{text}");
        assert_eq!(serde_json::to_value(&status).unwrap(), newer);
    }

    #[tokio::test]
    async fn json_is_the_daemons_own_on_one_line() {
        let daemon = ScriptedDaemon::new(vec![response_step(
            200,
            "{\n \"sync\": {\"text\": \"a b\"},\n \"new\": 1\n}\n",
        )]);
        let (code, text) = run_verb(&daemon, true, async |context| {
            super::run(&StatusArgs { watch: false, all: false, check: false }, context).await
        })
        .await;
        assert_eq!(code, Ok(0));
        assert_eq!(text, "{\"sync\":{\"text\":\"a b\"},\"new\":1}\n");
    }
}
