//! `fieldsync sync`, `pause`, `resume`: the three words that steer sending.
//!
//! `sync --wait` asks first and looks then, so that "nothing left" is never an answer from before.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::context::Context;
use super::failure::{Failure, sentence};
use super::follow::{Follower, Interrupt, News};
use super::meter::Meter;
use super::status::carries_status;
use super::words::{count, plain};
use crate::api::{Phase, Status};
use crate::client::{Client, JSON, decode_json};
use crate::clock::Clock;
use crate::exit;

/// A script that waits for a daemon which is stopped for good has to end some day.
const PATIENCE: Duration = Duration::from_mins(1);
/// The refusal that stands when the wait begins may be the one that this very request is to end.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Ends a back-off, and a deferral on a metered network or a low battery, once.

Examples:
  fieldsync sync
  fieldsync sync --wait && echo all sent
  fieldsync sync --wait --json      # the last status, when nothing is left to send")]
pub(crate) struct Args {
    /// Wait until nothing is left to send; exit code 6 when records need review
    #[arg(long)]
    wait: bool,
}

pub(crate) async fn run(args: &Args, context: &mut Context<'_>) -> Result<u8, Failure> {
    let answer = command(&context.client, "/v1/sync").await?;
    if args.wait {
        let status = until_settled(context, GRACE).await?;
        return conclude(context, &status);
    }
    if context.json {
        context.answer_line(&answer)?;
    } else {
        let status: Status = decode_json(&context.client.get("/v1/status").await?)?;
        context.text(plain(&status.sync.text))?;
    }
    Ok(exit::DONE)
}

pub(crate) async fn pause(context: &mut Context<'_>) -> Result<u8, Failure> {
    let answer = command(&context.client, "/v1/pause").await?;
    if context.json {
        context.answer_line(&answer)?;
    } else {
        context.line("Paused: records are accepted and kept, and none is sent until: fieldsync resume")?;
    }
    Ok(exit::DONE)
}

pub(crate) async fn resume(context: &mut Context<'_>) -> Result<u8, Failure> {
    let answer = command(&context.client, "/v1/resume").await?;
    if context.json {
        context.answer_line(&answer)?;
    } else {
        context.line("Resumed: records are sent again.")?;
    }
    Ok(exit::DONE)
}

async fn command(client: &Client, path: &str) -> Result<Bytes, Failure> {
    Ok(client.post(path, JSON, Bytes::new()).await?)
}

/// Shows the daemon at work until nothing is left that it can send, and gives its last status.
pub(crate) async fn until_settled(context: &mut Context<'_>, grace: Duration) -> Result<Status, Failure> {
    let client = context.client.clone();
    let clock = Clock::start();
    let mut interrupt = Interrupt::new()?;
    let mut follower = Follower::open(&client, PATIENCE).await?;
    let mut meter = Meter::new(context);
    let mut stuck = Stuck::default();
    loop {
        let left = grace.saturating_sub(clock.now());
        let next = async {
            match &stuck.before {
                None => Ok(follower.next().await?),
                Some(message) => match timeout(left, follower.next()).await {
                    Ok(news) => Ok(news?),
                    Err(_) => Err(Failure::failed(message.clone())),
                },
            }
        };
        let news = tokio::select! {
            () = interrupt.wait() => {
                Err(Failure::interrupted("the wait was interrupted. The daemon goes on by itself: fieldsync status"))
            }
            news = next => news,
        };
        let news = match news {
            Ok(news) => news,
            Err(failure) => {
                meter.end(context)?;
                return Err(failure);
            }
        };
        let status: Status = match news {
            News::Gone => {
                meter.note("The daemon went away; waiting for it to come back.");
                continue;
            }
            News::Back => {
                meter.note("The daemon is back.");
                continue;
            }
            News::Event(event) if carries_status(&event) => decode_json(event.data.as_bytes())?,
            News::Event(_) => continue,
        };
        if !context.json {
            meter.show(context, &status)?;
        }
        if let Some(message) = stuck.judge(&status) {
            meter.end(context)?;
            return Err(Failure::failed(message));
        }
        if is_settled(&status) {
            meter.end(context)?;
            return Ok(status);
        }
        if status.sync.phase == Phase::Paused && !stuck.told_pause {
            stuck.told_pause = true;
            meter.note("Syncing is paused, and the wait goes on; `fieldsync resume` ends the pause.");
        }
    }
}

/// Nothing is left to send, or all that is left waits for records under review.
fn is_settled(status: &Status) -> bool {
    let Status { records, sync, .. } = status;
    let to_go = records.pending + records.syncing + records.failed;
    let waits_for_review =
        sync.phase == Phase::Waiting && sync.next_attempt_at.is_none() && records.quarantined > 0;
    to_go == 0 || waits_for_review
}

fn conclude(context: &mut Context<'_>, status: &Status) -> Result<u8, Failure> {
    if context.json {
        let line = serde_json::to_string(status).map_err(|error| Failure::failed(error.to_string()))?;
        context.line(line)?;
    }
    match status.records.quarantined {
        0 => Ok(exit::DONE),
        number => {
            let need = if number == 1 { "needs" } else { "need" };
            let message = format!(
                "{} {need} review. The payloads are safe on disk: fieldsync quarantine list",
                count(number, "record")
            );
            Err(Failure::new(exit::NEEDS_REVIEW, message))
        }
    }
}

/// Phases that no waiting ends.
#[derive(Default)]
struct Stuck {
    /// The refusal that stood at the beginning, as long as nothing else was seen.
    before: Option<String>,
    seen: bool,
    told_pause: bool,
}

impl Stuck {
    /// A message when the wait is over.
    fn judge(&mut self, status: &Status) -> Option<String> {
        let text = sentence(&status.sync.text);
        let message = match status.sync.phase {
            Phase::AuthRequired => format!(
                "{text} All records are safe on disk. Renew the token or the certificate, then: fieldsync sync"
            ),
            Phase::Misconfigured => format!(
                "{text} All records are safe on disk. Correct the configuration: fieldsyncd --check-config"
            ),
            _ => {
                self.seen = true;
                self.before = None;
                return None;
            }
        };
        if self.seen {
            return Some(message);
        }
        self.before = Some(message);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{run, status};
    use super::*;
    use crate::api::Counts;
    use crate::client::scripted::{Scripted, Step, answer_step, stream_step};

    fn event(name: &str, status: &Status) -> String {
        let data = serde_json::to_string(status).unwrap();
        format!("event: {name}\ndata: {data}\n\n")
    }

    fn at(phase: Phase, text: &str, pending: u64, quarantined: u64) -> Status {
        let counts = Counts { pending, quarantined, ..Counts::default() };
        status(phase, text, counts)
    }

    fn daemon(events: &[&Status]) -> Scripted {
        let mut pieces = vec![event("status", events[0]), "event: batch\ndata: {}\n\n".to_owned()];
        pieces.extend(events[1..].iter().map(|status| event("progress", status)));
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let events: Step = stream_step(&pieces, false);
        Scripted::new(vec![answer_step(202, "{}"), events])
    }

    async fn waits(events: &[&Status], json: bool) -> (Result<u8, Failure>, String) {
        let daemon = daemon(events);
        run(&daemon, json, async |context| {
            command(&context.client, "/v1/sync").await?;
            let status = until_settled(context, Duration::ZERO).await?;
            conclude(context, &status)
        })
        .await
    }

    #[tokio::test]
    async fn waiting_ends_when_nothing_is_left() {
        let going = at(Phase::Syncing, "Syncing 1 of 2 records", 1, 0);
        let done = at(Phase::Idle, "All 2 records synced", 0, 0);
        let (code, text) = waits(&[&going, &going, &done], false).await;
        assert_eq!(code, Ok(0));
        assert_eq!(text, "Syncing 1 of 2 records\nAll 2 records synced\n");
        let (code, text) = waits(&[&going, &done], true).await;
        assert_eq!(code, Ok(0));
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), done);
    }

    #[tokio::test]
    async fn records_that_need_review_are_told_by_the_exit_code() {
        let done = at(Phase::Idle, "1 record needs review", 0, 1);
        let failure = waits(&[&done], false).await.0.unwrap_err();
        assert_eq!(failure.exit, exit::NEEDS_REVIEW);
        assert_eq!(
            failure.message,
            "1 record needs review. The payloads are safe on disk: fieldsync quarantine list"
        );
    }

    #[tokio::test]
    async fn a_server_that_lets_nobody_in_ends_the_wait() {
        let going = at(Phase::Syncing, "Syncing 1 of 2 records", 1, 0);
        let shut = at(Phase::AuthRequired, "The server does not accept the token", 1, 0);
        for events in [vec![&going, &shut], vec![&shut], vec![&shut, &shut]] {
            let (code, text) = waits(&events, false).await;
            let failure = code.unwrap_err();
            assert_eq!(failure.exit, exit::FAILED);
            assert!(
                failure.message.starts_with("The server does not accept the token. All records"),
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn a_refusal_from_before_may_pass() {
        for phase in [Phase::AuthRequired, Phase::Misconfigured] {
            let shut = at(phase, "The server does not take it", 1, 0);
            let done = at(Phase::Idle, "All 1 records synced", 0, 0);
            let daemon = daemon(&[&shut, &done]);
            let (code, _) =
                run(&daemon, false, async |context| super::run(&Args { wait: true }, context).await).await;
            assert_eq!(code, Ok(0), "{phase:?}");
        }
    }
}
