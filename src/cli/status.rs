//! `fieldsync status`: the sentence first, then what a person asks next.

use std::time::Duration;

use super::context::Context;
use super::failure::Failure;
use super::follow::{Follower, Interrupt, News};
use super::json_text;
use super::meter::Meter;
use super::table::error_text;
use super::words::{count, held, plain, size, spaced, span, stamp, when};
use crate::clock::wall_ms;
use crate::exit;
use crate::ipc::api::{Counts, QueueUse, Status};
use crate::ipc::client::{Event, decode};
use crate::model::{DiskState, Holder};

/// A person who watches decides alone when it is enough.
const FOR_EVER: Duration = Duration::MAX;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
With --watch and --json, each line is the whole status.

Examples:
  fieldsync status --watch
  fieldsync status --json | jq -r .sync.text")]
pub(crate) struct Args {
    /// Follow it until Ctrl-C
    #[arg(long)]
    watch: bool,
}

pub(crate) async fn run(args: &Args, context: &mut Context<'_>) -> Result<u8, Failure> {
    if args.watch {
        return watch(context).await;
    }
    let answer = context.client.get("/v1/status").await?;
    context.present(&answer, |context, status: Status| {
        describe(&status, wall_ms()).into_iter().try_for_each(|line| context.text(line))
    })?;
    Ok(exit::DONE)
}

async fn watch(context: &mut Context<'_>) -> Result<u8, Failure> {
    let client = context.client.clone();
    let mut interrupt = Interrupt::new()?;
    let mut follower = Follower::open(&client, FOR_EVER).await?;
    let mut meter = Meter::new(context);
    loop {
        let news = tokio::select! {
            () = interrupt.wait() => break,
            news = follower.next() => news?,
        };
        match news {
            News::Gone => meter.note("The daemon went away; waiting for it to come back."),
            News::Back => meter.note("The daemon is back."),
            News::Event(event) if carries_status(&event) => {
                if context.json {
                    context.line_now(json_text::compact(&event.data))?;
                } else {
                    meter.show(context, &decode(event.data.as_bytes())?)?;
                }
            }
            News::Event(_) => {}
        }
    }
    meter.end(context)?;
    Ok(exit::DONE)
}

pub(crate) fn carries_status(event: &Event) -> bool {
    matches!(event.name.as_str(), "status" | "progress")
}

fn describe(status: &Status, now: u64) -> Vec<String> {
    let mut lines = vec![plain(&status.sync.text).into_owned(), String::new()];
    let mut field = |name: &str, value: String| lines.push(format!("{name:<13} {value}"));
    field("Records", counts(&status.records));
    field("Queue", queue(status, now));
    if let Some(disk) = disk(&status.queue) {
        field("Disk", disk);
    }
    for holder in &status.queue.holding {
        field("Holding", holding(holder));
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
    field("Next batch", format!("{next} ({})", plain(&batching.why())));
    if let Some(each) = batching.ms_per_record {
        let budget = span(batching.time_budget_ms);
        field("Pace", format!("{} a record; a batch is meant to take {budget} at most", span_exact(each)));
    }
    field("Breaker", breaker(status, now));
    field("Connectivity", connectivity(status, now));
    if let Some(seconds) = status.sync.eta_s {
        field("Time left", format!("about {}", span(seconds.saturating_mul(1000))));
    }
    if let Some(at) = status.sync.last_success_at {
        field("Last success", stamp(at, now));
    }
    if let Some(error) = &status.sync.last_error {
        field("Last error", error_text(error));
        field("", stamp(error.at, now));
    }
    let daemon = format!("{}, started {}", plain(&status.version), when(status.started_at, now));
    field("Daemon", daemon);
    field("Device", status.device_id.to_string());
    for alert in &status.alerts {
        lines.push(String::new());
        lines.push(format!(
            "ALERT {}: {} (since {})",
            plain(&alert.alert),
            plain(&alert.message),
            when(alert.since, now)
        ));
    }
    if status.records.quarantined > 0 {
        lines.push(String::new());
        lines.push(format!(
            "{} to review: fieldsync quarantine list",
            count(status.records.quarantined, "record")
        ));
    }
    lines
}

fn counts(records: &Counts) -> String {
    format!(
        "{} pending, {} syncing, {} failed, {} synced, {} quarantined",
        records.pending, records.syncing, records.failed, records.synced, records.quarantined
    )
}

fn queue(status: &Status, now: u64) -> String {
    let queue = &status.queue;
    let waits = queue.oldest_pending_at.map_or_else(String::new, |at| {
        let waits = span(now.saturating_sub(at));
        format!("; the oldest record has waited {waits}")
    });
    format!("{} of {}{waits}", size(queue.bytes), size(queue.max_bytes))
}

/// Only when it is not well.
fn disk(queue: &QueueUse) -> Option<String> {
    let free = queue.disk_free_bytes.map_or_else(String::new, |free| format!(", {} free", size(free)));
    match queue.disk {
        DiskState::Ok => None,
        DiskState::Full => Some(format!("full: no new records are taken{free}")),
        DiskState::Failing => Some("gives errors: no records are taken and none are sent".to_owned()),
    }
}

fn holding(holder: &Holder) -> String {
    let Holder { id, key, state, holds, .. } = holder;
    format!("{id} ({}) holds back {} of key {}", state.name(), held(*holds), plain(key))
}

/// Rates want their milliseconds below ten seconds.
fn span_exact(ms: u64) -> String {
    if ms < 10_000 { format!("{ms} ms") } else { span(ms) }
}

fn breaker(status: &Status, now: u64) -> String {
    let breaker = &status.breaker;
    let failures = match breaker.consecutive_failures {
        0 => String::new(),
        failures => format!(", {} in a row", count(u64::from(failures), "failure")),
    };
    let retry = breaker.retry_at.map_or_else(String::new, |at| format!(", next request {}", when(at, now)));
    format!("{}{failures}{retry}", spaced(&breaker.mode))
}

fn connectivity(status: &Status, now: u64) -> String {
    let link = &status.connectivity;
    let metered = if link.metered { ", metered" } else { "" };
    let since = span(now.saturating_sub(link.since));
    format!("{} for {since}{metered}", spaced(&link.state))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{run, status};
    use super::*;
    use crate::ipc::api::{Alert, Phase};
    use crate::ipc::client::scripted::{Scripted, answer};
    use crate::model::{RecordId, RecordState};

    fn syncing() -> Status {
        let records = Counts { pending: 105, synced: 45, quarantined: 2, ..Counts::default() };
        status(Phase::Syncing, "Syncing 45 of 150 records (2 need review)", records)
    }

    #[test]
    fn the_sentence_comes_first() {
        let text = describe(&syncing(), 202_000).join("\n");
        let expected = "Syncing 45 of 150 records (2 need review)\n\n\
             Records       105 pending, 0 syncing, 0 failed, 45 synced, 2 quarantined\n\
             Queue         176.9 KiB of 2.0 GiB; the oldest record has waited 3 min 12 s\n\
             Next batch    23 records (learned: 27.0 s expected, 33.0 s at most; the server's limit is 1 min)\n\
             Pace          1166 ms a record; a batch is meant to take 45 s at most\n\
             Breaker       normal\n\
             Connectivity  online for 3 min 12 s\n\
             Time left     about 31 s\n\
             Daemon        0.1.0, started 3 min 22 s ago\n\
             Device        00000000-0000-0000-0000-000000000000\n\n\
             2 records to review: fieldsync quarantine list";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_wrong_has_lines_of_its_own() {
        let mut status = syncing();
        assert_eq!(disk(&status.queue), None);
        status.queue.disk = DiskState::Full;
        status.queue.disk_free_bytes = Some(2048);
        let id = RecordId::new();
        let state = RecordState::Quarantined;
        status.queue.holding = vec![Holder { id, key: "Acme".into(), submitter: 0, state, holds: 1000 }];
        let message = "the disk is full: no new records are taken".to_owned();
        status.alerts = vec![Alert { alert: "disk_full".into(), message, since: 190_000 }];
        let text = describe(&status, 202_000).join("\n");
        for part in [
            "\nDisk          full: no new records are taken, 2.0 KiB free\n",
            &format!("\nHolding       {id} (QUARANTINED) holds back at least 1000 records of key Acme\n"),
            "\nALERT disk_full: the disk is full: no new records are taken (since 12 s ago)\n",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[tokio::test]
    async fn json_is_the_daemons_own_on_one_line() {
        let daemon = Scripted::new(vec![answer(200, "{\n \"sync\": {\"text\": \"a b\"},\n \"new\": 1\n}\n")]);
        let (code, text) =
            run(&daemon, true, async |context| super::run(&Args { watch: false }, context).await).await;
        assert_eq!(code, Ok(0));
        assert_eq!(text, "{\"sync\":{\"text\":\"a b\"},\"new\":1}\n");
    }
}
