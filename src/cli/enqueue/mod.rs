//! `fieldsync enqueue`: records from files or standard input into the daemon's queue.
//!
//! Input is read twice: once to check it whole, so that a mistake in line 5,000 is found before line 1
//! is stored, and once to send it. A pipe is kept for that, in a file that has no name. Every record has
//! its id before it is sent, so that a chunk whose answer was lost is sent again as it is, and the daemon
//! knows what it has. Memory is bound by one chunk and one record, however large the input.
//!
//! The daemon may refuse what only it can judge (the size of a record, a known id with other content,
//! a full queue) when earlier chunks are stored. Then the message says what is safe and where to go on,
//! and the exit code is not the one that promises that nothing was stored.
//!
//! Ids that are made here are random: were they made from the content, a record that an application
//! means to say twice would be taken for a double, and be lost.

mod check;
mod chunk;
mod ids;
mod items;
mod progress;
mod send;
mod source;

use std::io::{self, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::timeout;

use self::check::Rules;
use self::chunk::{Chunk, Position};
use self::ids::Ids;
use self::items::{Items, Mistake};
use self::send::{Delivery, Sender};
use self::source::Source;
use super::context::Context;
use super::failure::Failure;
use super::follow::Interrupt;
use super::words::count;
use crate::client::decode_json;
use crate::exit;

/// How long Ctrl-C waits for what is on its way, so that it is known what became of it.
const LAST_ANSWER: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A record is {\"id\"?: UUID, \"type\": text, \"key\"?: text, \"priority\"?: 0-9,
\"payload\": object}. Records stand one a line (NDJSON) or in one JSON array.

Everything is checked first: a mistake anywhere stores nothing (exit code 8).
What only the daemon can refuse, as a full queue, may stop a large input in the
middle (exit code 7, or 1): the message then says which records are stored and
where to go on.

Records get an id here when they have none; ids of their own make it safe to
repeat a whole input. With --json, {\"ids\", \"accepted\", \"duplicates\"} is
written while records are accepted.

Examples:
  fieldsync enqueue visits.ndjson
  fieldsync enqueue --type Visits --key-field account payloads.ndjson
  echo '{\"type\": \"Visits\", \"payload\": {}}' | fieldsync enqueue")]
pub(crate) struct Args {
    /// Lines are bare payloads, all of this type
    #[arg(long = "type", value_name = "T")]
    pub(crate) record_type: Option<String>,
    /// Field of the payload that orders records: those of one value go out one after the other
    #[arg(long, value_name = "F", requires = "record_type")]
    pub(crate) key_field: Option<String>,
    /// How long to wait for a daemon that went away in the middle
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    pub(crate) retry_for: Duration,
    /// Files to read; `-` or none is standard input
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

pub(crate) async fn run(args: &Args, context: &mut Context<'_>) -> Result<u8, Failure> {
    // Asked first, so that nobody reads gigabytes to learn that the daemon is not there.
    let limits: Limits = decode_json(&context.client.get("/v1/status").await?)?;
    enqueue(args, limits.queue.max_record_bytes, context).await
}

/// What the daemon says of itself, as far as it matters here.
#[derive(Deserialize)]
struct Limits {
    queue: QueueLimits,
}

#[derive(Deserialize)]
struct QueueLimits {
    /// A daemon that does not say refuses by itself what is too large.
    max_record_bytes: Option<u64>,
}

async fn enqueue(args: &Args, max_payload: Option<u64>, context: &mut Context<'_>) -> Result<u8, Failure> {
    let notes = context.notes();
    let rules = Rules::new(args.record_type.as_deref(), args.key_field.as_deref())?.up_to(max_payload);
    let standard_input = [PathBuf::from("-")];
    let files = if args.files.is_empty() { &standard_input[..] } else { &args.files };
    if files.iter().filter(|file| file.as_path() == Path::new("-")).count() > 1 {
        let message = "standard input (`-`) is named more than once, and can be read once only. Nothing was stored. \
                       Name it once.";
        return Err(Failure::new(exit::USAGE, message));
    }
    let mut sources = files.iter().map(|file| Source::open(file, notes)).collect::<Result<Vec<_>, _>>()?;
    let total = check_all(&rules, &mut sources)?;

    let names: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
    let mut sender = Sender::new(&context.client, args.retry_for, &names, notes, progress::storing(total));
    let mut ids = context.json.then(|| Ids::new(context.out));
    let sent = send_all(&rules, &mut sources, &mut sender, ids.as_mut()).await;
    let (accepted, duplicates) = sender.finish();
    let told = match ids {
        Some(ids) => ids.end(accepted, duplicates, sent.is_ok()),
        None if sent.is_err() => Ok(()),
        None => say_enqueued(context.out, accepted, duplicates),
    };
    let told = told.map_err(|error| {
        let done = match accepted + duplicates {
            1 => "1 record is stored; what could not be written is this answer. Do not enqueue it again.".to_owned(),
            stored => format!(
                "{stored} records are stored; what could not be written is this answer. Do not enqueue them again."
            ),
        };
        Failure::unanswered(&error, &done)
    });
    sent.and(told).map(|()| exit::DONE)
}

fn say_enqueued(out: &mut dyn Write, accepted: u64, duplicates: u64) -> io::Result<()> {
    writeln!(out, "Enqueued {} ({})", count(accepted, "record"), count(duplicates, "duplicate"))?;
    out.flush()
}

/// The first pass: how many records there are.
fn check_all(rules: &Rules<'_>, sources: &mut [Source]) -> Result<u64, Failure> {
    let bar = progress::checking(sources.iter().map(|source| source.bytes).sum());
    let mut total = 0;
    for source in sources {
        let name = source.name.clone();
        let mut items = Items::new(bar.wrap_read(source.reader()?), rules.max_item());
        let mut check =
            || -> Result<Option<()>, Mistake> { items.next()?.map(|item| rules.check(&item)).transpose() };
        loop {
            match check() {
                Ok(Some(())) => total += 1,
                Ok(None) => break,
                Err(mistake) => {
                    bar.finish_and_clear();
                    return Err(mistake.nothing_stored(&name));
                }
            }
        }
    }
    bar.finish_and_clear();
    Ok(total)
}

/// The second pass.
async fn send_all(
    rules: &Rules<'_>,
    sources: &mut [Source],
    sender: &mut Sender<'_>,
    mut ids: Option<&mut Ids<'_>>,
) -> Result<(), Failure> {
    let mut interrupt = Interrupt::new()?;
    let mut chunk = Chunk::default();
    for (number, source) in sources.iter_mut().enumerate() {
        let mut items = Items::new(source.reader()?, rules.max_item());
        loop {
            // It was checked, and may have been changed since: what is gathered by then is not sent.
            let record = match items.next() {
                Ok(None) => break,
                Ok(Some(item)) => rules.record(&item).map(|record| {
                    let position = Position { source: number, line: item.line, element: item.element };
                    (record, position)
                }),
                Err(error) => Err(error),
            };
            let (record, position) = record.map_err(|error| sender.refused(&error, number))?;
            if !chunk.fits(&record, sender.max_bytes()) {
                send(mem::take(&mut chunk), sender, &mut interrupt, ids.as_deref_mut()).await?;
            }
            chunk.push(&record, position);
        }
    }
    if !chunk.is_empty() {
        send(chunk, sender, &mut interrupt, ids).await?;
    }
    Ok(())
}

/// In parts, where the daemon takes less at a time.
async fn send(
    chunk: Chunk,
    sender: &mut Sender<'_>,
    interrupt: &mut Interrupt,
    mut ids: Option<&mut Ids<'_>>,
) -> Result<(), Failure> {
    // The next one is the last.
    let mut parts = vec![chunk];
    while let Some(part) = parts.pop() {
        let (outcome, interrupted) = {
            let sending = sender.send(&part);
            tokio::pin!(sending);
            tokio::select! {
                outcome = &mut sending => (Some(outcome), false),
                () = interrupt.wait() => (timeout(LAST_ANSWER, sending).await.ok(), true),
            }
        };
        let outcome = outcome.transpose()?;
        let in_doubt = outcome.is_none();
        match outcome {
            Some(Delivery::Stored) => ids.iter_mut().for_each(|ids| ids.push(part.ids())),
            Some(Delivery::TooLarge([first, second])) => parts.extend([second, first]),
            None => {}
        }
        if interrupted {
            return Err(sender.interrupted(&part, in_doubt));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
