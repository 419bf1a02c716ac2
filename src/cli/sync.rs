//! `fieldsync sync`, `pause`, `resume`: control sending.
//!
//! `sync --wait` sends the command before it reads the status, so that "nothing left" is never an old result.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::context::CommandContext;
use super::failure::{CommandFailure, as_sentence};
use super::follow::{EventFollower, FollowEvent, Interrupt};
use super::format::{duration, strip_controls};
use super::meter::StatusMeter;
use super::status::{describe_situation, has_status, records_need_review};
use super::sync_wait_end::{describe_next, describe_timeout};
use crate::api::{Phase, Status};
use crate::client::{Client, JSON, decode_json, with_query};
use crate::clock::{Clock, millis};
use crate::exit;

/// A script must not wait forever for a daemon that was stopped.
const ABSENCE_TIMEOUT: Duration = Duration::from_mins(1);
/// As the daemon limits it, which counts whole seconds.
const PAUSE_LENGTHS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_hours(365 * 24);
/// The command may end a refusal that exists when the wait begins.
const INITIAL_REFUSAL_GRACE: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Ends a back-off. Also sends once on a metered network or a low battery.

Examples:
  fieldsync sync
  fieldsync sync --wait && echo all sent
  fieldsync sync --wait --json      # prints the last status")]
pub(crate) struct SyncArgs {
    /// Wait until nothing is left to send; exit code 6 when records need review
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this, for example 2m; exit code 1 when records are left
    #[arg(long, value_name = "D", requires = "wait", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fieldsync pause
  fieldsync pause --for 2h")]
pub(crate) struct PauseArgs {
    /// Resume by itself after this time, for example 2h
    #[arg(long = "for", value_name = "D", value_parser = parse_pause_length)]
    time: Option<Duration>,
}

fn parse_pause_length(text: &str) -> Result<Duration, String> {
    let length = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if PAUSE_LENGTHS.contains(&length) {
        return Ok(length);
    }
    Err("give a time from 1s to 365d; without --for, sending stays paused until: fieldsync resume".to_owned())
}

pub(crate) async fn run(args: &SyncArgs, context: &mut CommandContext<'_>) -> Result<u8, CommandFailure> {
    let response = send_command(&context.client, "/v1/sync").await?;
    if args.wait {
        let status = wait_until_settled(context, INITIAL_REFUSAL_GRACE, args.timeout).await?;
        return print_result(context, &status);
    }
    let status: Status = decode_json(&context.client.get("/v1/status").await?)?;
    if context.json {
        context.print_json(&response)?;
    } else if status.sync.phase != Phase::Paused {
        describe_situation(&status.sync).into_iter().try_for_each(|line| context.print_wrapped(line))?;
    }
    if status.sync.phase == Phase::Paused {
        let text = as_sentence(&status.sync.text);
        let message = format!("{text} Nothing is sent during a pause. To send again: fieldsync resume");
        return Err(CommandFailure::failed(message));
    }
    Ok(exit::DONE)
}

pub(crate) async fn pause_syncing(
    args: &PauseArgs,
    context: &mut CommandContext<'_>,
) -> Result<u8, CommandFailure> {
    let seconds = args.time.map(|time| time.as_secs().to_string());
    let pairs: Vec<_> = seconds.iter().map(|seconds| ("for_s", seconds.as_str())).collect();
    let response = send_command(&context.client, &with_query("/v1/pause", &pairs)).await?;
    if context.json {
        context.print_json(&response)?;
        return Ok(exit::DONE);
    }
    let end = match args.time {
        Some(time) => format!("for {}, or until", duration(millis(time))),
        None => "until".to_owned(),
    };
    context
        .print_line(format!("Paused: records are accepted and kept, but not sent {end}: fieldsync resume"))?;
    Ok(exit::DONE)
}

pub(crate) async fn resume_syncing(context: &mut CommandContext<'_>) -> Result<u8, CommandFailure> {
    let response = send_command(&context.client, "/v1/resume").await?;
    if context.json {
        context.print_json(&response)?;
    } else {
        context.print_line("Resumed: records are sent again.")?;
    }
    Ok(exit::DONE)
}

async fn send_command(client: &Client, path: &str) -> Result<Bytes, CommandFailure> {
    Ok(client.post(path, JSON, Bytes::new()).await?)
}

/// Shows the progress until the daemon has nothing left to send, and returns its last status.
pub(crate) async fn wait_until_settled(
    context: &mut CommandContext<'_>,
    grace: Duration,
    limit: Option<Duration>,
) -> Result<Status, CommandFailure> {
    let client = context.client.clone();
    let clock = Clock::start();
    let mut interrupt = Interrupt::new()?;
    let mut follower = EventFollower::open(&client, ABSENCE_TIMEOUT).await?;
    let mut meter = StatusMeter::new(context);
    let mut stuck = StuckDetector::default();
    let mut last_status = None;
    loop {
        let left = grace.saturating_sub(clock.now());
        let rest = limit.unwrap_or(Duration::MAX).saturating_sub(clock.now());
        let next = async {
            match &stuck.initial_refusal {
                None => Ok(follower.next().await?),
                Some(message) => match timeout(left, follower.next()).await {
                    Ok(news) => Ok(news?),
                    Err(_) => Err(CommandFailure::failed(message.clone())),
                },
            }
        };
        let news = tokio::select! {
            () = interrupt.wait() => {
                let next = describe_next(last_status.as_ref());
                Err(CommandFailure::interrupted(format!("the wait was interrupted. {next}")))
            }
            news = timeout(rest, next) => news.unwrap_or_else(|_| Err(describe_timeout(limit, last_status.as_ref()))),
        };
        let news = match news {
            Ok(news) => news,
            Err(failure) => {
                meter.finish(context)?;
                return Err(failure);
            }
        };
        let status: Status = match news {
            FollowEvent::Disconnected => {
                meter.print_note("The connection to the daemon was lost; waiting for it to come back.");
                continue;
            }
            FollowEvent::Reconnected => {
                meter.print_note("The daemon is back.");
                continue;
            }
            FollowEvent::Event(event) if has_status(&event) => decode_json(event.data.as_bytes())?,
            FollowEvent::Event(_) => continue,
        };
        if !context.json {
            meter.show_status(context, &status)?;
        }
        if is_settled(&status) {
            meter.finish(context)?;
            return Ok(status);
        }
        if let Some(message) = stuck.check_status(&status) {
            meter.finish(context)?;
            return Err(CommandFailure::failed(message));
        }
        if status.sync.phase == Phase::Paused && !stuck.has_noted_pause {
            stuck.has_noted_pause = true;
            meter.print_note("Syncing is paused, and the wait continues; `fieldsync resume` ends the pause.");
        }
        last_status = Some(status);
    }
}

/// Nothing is left to send, or all remaining records wait for records that need review.
fn is_settled(status: &Status) -> bool {
    let Status { records, sync, .. } = status;
    let to_go = records.pending + records.syncing + records.failed;
    let waits_for_review =
        sync.phase == Phase::Waiting && sync.next_attempt_at.is_none() && records.quarantined > 0;
    to_go == 0 || waits_for_review
}

fn print_result(context: &mut CommandContext<'_>, status: &Status) -> Result<u8, CommandFailure> {
    if context.json {
        let line =
            serde_json::to_string(status).map_err(|error| CommandFailure::failed(error.to_string()))?;
        context.print_line(line)?;
    }
    match status.records.quarantined {
        0 => Ok(exit::DONE),
        number => {
            let message = format!(
                "{}. The payloads are safe on disk: fieldsync quarantine list",
                records_need_review(number)
            );
            Err(CommandFailure::new(exit::NEEDS_REVIEW, message))
        }
    }
}

/// Detects phases that waiting does not end.
#[derive(Default)]
struct StuckDetector {
    /// The refusal at the beginning, until another phase was seen.
    initial_refusal: Option<String>,
    has_progressed: bool,
    has_noted_pause: bool,
}

impl StuckDetector {
    /// A message if the wait must end.
    fn check_status(&mut self, status: &Status) -> Option<String> {
        let text = as_sentence(&status.sync.text);
        let message = |remedy: &str| {
            let remedy = status.sync.remedy.as_deref().unwrap_or(remedy);
            format!("{text} All records are safe on disk. To do: {}", strip_controls(remedy))
        };
        let message = match status.sync.phase.known() {
            Some(Phase::AuthRequired) => message("renew the token or the certificate, then: fieldsync sync"),
            Some(Phase::Misconfigured) => message("correct the configuration: fieldsyncd --check-config"),
            _ => {
                self.has_progressed = true;
                self.initial_refusal = None;
                return None;
            }
        };
        if self.has_progressed {
            return Some(message);
        }
        self.initial_refusal = Some(message);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{run_verb, sample_status};
    use super::*;
    use crate::api::Counts;
    use crate::client::scripted::{ScriptStep, ScriptedDaemon, response_step, stream_step};

    fn event_text(name: &str, status: &Status) -> String {
        let data = serde_json::to_string(status).unwrap();
        format!("event: {name}\ndata: {data}\n\n")
    }

    fn status_at(phase: Phase, text: &str, pending: u64, quarantined: u64) -> Status {
        let counts = Counts { pending, quarantined, ..Counts::default() };
        sample_status(phase, text, counts)
    }

    fn scripted_daemon(events: &[&Status]) -> ScriptedDaemon {
        let mut pieces = vec![event_text("status", events[0]), "event: batch\ndata: {}\n\n".to_owned()];
        pieces.extend(events[1..].iter().map(|status| event_text("progress", status)));
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let events: ScriptStep = stream_step(&pieces, false);
        ScriptedDaemon::new(vec![response_step(202, "{}"), events])
    }

    async fn run_wait(events: &[&Status], json: bool) -> (Result<u8, CommandFailure>, String) {
        let daemon = scripted_daemon(events);
        run_verb(&daemon, json, async |context| {
            send_command(&context.client, "/v1/sync").await?;
            let status = wait_until_settled(context, Duration::ZERO, None).await?;
            print_result(context, &status)
        })
        .await
    }

    #[test]
    fn a_pause_has_a_length_that_makes_sense() {
        for text in ["1s", "2h", "365d"] {
            assert!(parse_pause_length(text).is_ok(), "{text}");
        }
        for text in ["0s", "500ms", "366d", "999999999d", "soon"] {
            assert!(parse_pause_length(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn waiting_ends_when_nothing_is_left() {
        let going = status_at(Phase::Syncing, "Syncing 1 of 2 records", 1, 0);
        let done = status_at(Phase::Idle, "All 2 records synced", 0, 0);
        let (code, text) = run_wait(&[&going, &going, &done], false).await;
        assert_eq!(code, Ok(0));
        assert_eq!(text, "Syncing 1 of 2 records\nAll 2 records synced\n");
        let (code, text) = run_wait(&[&going, &done], true).await;
        assert_eq!(code, Ok(0));
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), done);
    }

    #[tokio::test]
    async fn records_that_need_review_set_the_exit_code() {
        let done = status_at(Phase::Idle, "1 record needs review", 0, 1);
        let failure = run_wait(&[&done], false).await.0.unwrap_err();
        assert_eq!(failure.exit, exit::NEEDS_REVIEW);
        assert_eq!(
            failure.message,
            "1 record needs review. The payloads are safe on disk: fieldsync quarantine list"
        );
    }

    #[tokio::test]
    async fn a_refused_credential_ends_the_wait() {
        let going = status_at(Phase::Syncing, "Syncing 1 of 2 records", 1, 0);
        let shut = status_at(Phase::AuthRequired, "The server does not accept the token", 1, 0);
        for events in [vec![&going, &shut], vec![&shut], vec![&shut, &shut]] {
            let (code, text) = run_wait(&events, false).await;
            let failure = code.unwrap_err();
            assert_eq!(failure.exit, exit::FAILED);
            assert!(
                failure.message.starts_with("The server does not accept the token. All records"),
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn an_initial_refusal_may_pass() {
        for phase in [Phase::AuthRequired, Phase::Misconfigured] {
            let shut = status_at(phase, "The server does not take it", 1, 0);
            let done = status_at(Phase::Idle, "1 record synced", 0, 0);
            let daemon = scripted_daemon(&[&shut, &done]);
            let (code, _) = run_verb(&daemon, false, async |context| {
                super::run(&SyncArgs { wait: true, timeout: None }, context).await
            })
            .await;
            assert_eq!(code, Ok(0), "{phase:?}");
        }
    }
}
