//! `fieldsync status`: the summary sentence first, then the details.

use std::iter;
use std::time::Duration;

use console::Color;

use super::context::CommandContext;
use super::failure::CommandFailure;
use super::follow::{EventFollower, FollowEvent, Interrupt};
use super::format::{
    blocked_records, count, duration, relative, size, strip_controls, timestamp, with_spaces,
};
use super::health;
use super::json_text;
use super::meter::StatusMeter;
use super::state_words::{class_word, state_word};
use super::table::error_text;
use crate::api::{
    BatchInFlight, Batching, Caller, CallerQueue, Counts, OpenEnum, Phase, QueueUse, Status, Sync,
};
use crate::client::{ServerSentEvent, decode_json};
use crate::clock::wall_ms;
use crate::exit;
use crate::model::{Blocker, DiskState};
use crate::policy::health::{Health, judge_health};

/// How the line of an alert begins.
const ALERT_LABEL: &str = "ALERT ";
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
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command")]
pub(crate) struct StatusArgs {
    /// Follow the status until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Also show the size of the next batch, the pace, and whether the circuit breaker holds requests back
    #[arg(long, short)]
    verbose: bool,
    /// Show the counts of the whole device instead of your own records; admins always see them
    #[arg(long)]
    all: bool,
    /// Print one line for a monitoring program; exit code 0: well, 1: a person must act, 2: records wait too long
    #[arg(long, conflicts_with_all = ["watch", "all"])]
    check: bool,
}

impl StatusArgs {
    /// Whether the output may be longer than a screen, and is complete at once.
    pub(crate) fn is_paged(&self) -> bool {
        !self.watch && !self.check
    }
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
        let mut lines = describe_status(&status, args, wall_ms()).into_iter();
        if let Some(sentence) = lines.next() {
            context.print_painted(&sentence, situation_colour(&status))?;
        }
        lines.try_for_each(|line| {
            let is_alert = line.starts_with(ALERT_LABEL);
            context.print_painted(&line, is_alert.then_some(Color::Red))
        })
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

/// Red if a person must act, yellow while something waits that a person did not ask for, green if all is well.
fn situation_colour(status: &Status) -> Option<Color> {
    let (health, _) = judge_health(&status.sync, &status.alerts);
    match (health, status.sync.phase.known()) {
        (Health::PersonMustAct, _) => Some(Color::Red),
        (Health::WaitsTooLong, _)
        | (_, Some(Phase::Waiting | Phase::Offline | Phase::Paused | Phase::Deferred)) => Some(Color::Yellow),
        (Health::Well, Some(Phase::Idle)) if status.records.synced > 0 => Some(Color::Green),
        (Health::Well, _) => None,
    }
}

/// The sentence, and below it what a person can do.
pub(crate) fn describe_situation(sync: &Sync) -> Vec<String> {
    let remedy = sync.remedy.as_deref().map(|remedy| format!("To do: {}", strip_controls(remedy)));
    [strip_controls(&sync.text).into_owned()].into_iter().chain(remedy).collect()
}

/// With the counts of the whole device for admins and with `--all`, else with those of the caller's records.
fn describe_status(status: &Status, args: &StatusArgs, now: u64) -> Vec<String> {
    let own = status.caller.filter(|caller| !args.all && !caller.admin).and_then(own_records);
    let mut lines = describe_situation(&status.sync);
    if let Some((counts, _)) = &own {
        lines = vec![own_sentence(counts), format!("The device: {}", lines.join(" "))];
    }
    lines.push(String::new());
    let mut field = |name: &str, value: String| lines.push(format!("{name:<13} {value}"));
    if let Some(since) = status.sync.since {
        field("Since", timestamp(since, now));
    }
    if let Some(at) = status.sync.next_attempt_at {
        // The time stays until the try has ended.
        field("Next try", if at <= now { "now".to_owned() } else { relative(at, now) });
    }
    if let Some(at) = status.sync.last_success_at {
        field("Last success", timestamp(at, now));
    }
    if let Some((records, queue)) = &own {
        field("Your records", describe_counts(records));
        field("Your queue", describe_use((queue.records, queue.max_records), (queue.bytes, queue.max_bytes)));
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
    for (name, value) in describe_in_flight(status) {
        field(name, value);
    }
    if args.verbose {
        describe_batching(&status.batching, &mut field);
        field("Breaker", describe_breaker(status, now));
    }
    field("Connectivity", describe_connectivity(status, now));
    if let Some(seconds) = status.sync.eta_s {
        field("Time left", format!("about {}", duration(seconds.saturating_mul(1000))));
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
            "{ALERT_LABEL}{}: {} (since {})",
            strip_controls(&alert.alert.to_string()),
            strip_controls(&alert.message),
            relative(alert.since, now)
        ));
        if !alert.remedy.is_empty() {
            lines.push(format!("To do: {}", strip_controls(&alert.remedy)));
        }
    }
    let to_review = own.map_or(status.records, |(records, _)| records).quarantined;
    if to_review > 0 {
        lines.push(String::new());
        lines.push(format!("{}: fieldsync quarantine list", records_need_review(to_review)));
    }
    lines
}

/// What is under way, and below it the batches. A daemon before 0.2 reports one batch.
fn describe_in_flight(status: &Status) -> Vec<(&'static str, String)> {
    let sync = &status.sync;
    let describe = |batch: &BatchInFlight| {
        let records = count(batch.records as u64, "record");
        format!("batch {}, {records}, try {}", batch.sequence, batch.attempt)
    };
    let batches = sync.batches.iter().map(describe);
    let summary =
        (!sync.batches.is_empty()).then(|| strip_controls(&status.batching.explain_in_flight()).into_owned());
    let oldest = sync.batch.iter().filter(|_| sync.batches.is_empty()).map(describe);
    let names = iter::once("In flight").chain(iter::repeat(""));
    names.zip(summary.into_iter().chain(batches).chain(oldest)).collect()
}

fn describe_batching(batching: &Batching, field: &mut impl FnMut(&str, String)) {
    let next = count(batching.size as u64, "record");
    field("Next batch", format!("{next} ({})", strip_controls(&batching.explain_size())));
    if let Some(each) = batching.ms_per_record {
        let budget = duration(batching.time_budget_ms);
        let pace = format!("{} for each record; a batch should take {budget} at most", exact_duration(each));
        field("Pace", pace);
    }
}

fn own_records(caller: Caller) -> Option<(Counts, CallerQueue)> {
    caller.records.zip(caller.queue)
}

/// Summarizes the caller's own records.
fn own_sentence(records: &Counts) -> String {
    let to_go = records.pending + records.syncing + records.failed;
    let review = need_review(records.quarantined);
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

/// `1 record needs review`
pub(crate) fn records_need_review(records: u64) -> String {
    let need = if records == 1 { "needs" } else { "need" };
    format!("{} {need} review", count(records, "record"))
}

/// `1 needs review`
fn need_review(records: u64) -> String {
    if records == 1 { "1 needs review".to_owned() } else { format!("{records} need review") }
}

fn describe_counts(records: &Counts) -> String {
    format!(
        "{} waiting, {} sending, {} failed, {} synced, {}",
        records.pending,
        records.syncing,
        records.failed,
        records.synced,
        need_review(records.quarantined)
    )
}

fn describe_queue(status: &Status, now: u64) -> String {
    let queue = &status.queue;
    let waits = queue.oldest_pending_at.map_or_else(String::new, |at| {
        let waits = duration(now.saturating_sub(at));
        format!("; the oldest record has waited {waits}")
    });
    let used = describe_use((queue.records, queue.max_records), (queue.bytes, queue.max_bytes));
    format!("{used}{waits}")
}

/// `105 of 5000000 records, 176.9 KiB of 2.0 GiB`
fn describe_use((records, max_records): (u64, u64), (bytes, max_bytes): (u64, u64)) -> String {
    format!("{records} of {}, {} of {}", count(max_records, "record"), size(bytes), size(max_bytes))
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
    format!("{id} ({}) blocks {} of {of}", state_word(*state), blocked_records(*blocked_count))
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
    format!("{} for {since}{metered}", with_spaces(&class_word(&link.state.to_string())))
}

#[cfg(test)]
mod tests;
