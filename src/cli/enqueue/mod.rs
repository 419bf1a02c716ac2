//! `fieldsync enqueue`: sends records from files or standard input to the daemon's queue.
//!
//! Input is read twice: once to check all of it, so that a mistake in line 5,000 is found before line 1 is stored, and
//! once to send it. For that, a pipe is spooled to an unnamed file. Every record has an id before it is sent, so
//! that a chunk whose response was lost is sent again unchanged, and the daemon recognises what it already has. Memory is
//! limited to one chunk and one record, however large the input.
//!
//! The daemon can still refuse a record (size, a known id with other content, a full queue) after earlier chunks were
//! stored. Then the message says what is stored and where to continue, and the exit code is not the one that promises
//! that nothing was stored.
//!
//! Generated ids are random. If they were derived from the content, a record that an application intends to send twice
//! would count as a duplicate and be lost.

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

use self::check::InputRules;
use self::chunk::{Position, RecordChunk};
use self::ids::{FirstIds, IdsDocument, IdsOutput};
use self::items::{InputError, ItemReader};
use self::send::{ChunkOutcome, ChunkSender};
use self::source::InputSource;
use super::context::CommandContext;
use super::failure::CommandFailure;
use super::follow::Interrupt;
use super::format::count;
use crate::client::decode_json;
use crate::exit;

/// How long Ctrl-C waits for the response to the last request, so that its outcome is known.
const LAST_RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A record is {\"id\"?: UUID, \"type\": text, \"key\"?: text, \"priority\"?: 0-9,
\"payload\": object}. The input has one record on each line (NDJSON), or is one
JSON array.

The whole input is checked first: a mistake anywhere stores nothing (exit code
8). The daemon can still reject part of a large input, for example when the
queue is full (exit code 7, or 1). The message then says which records are
stored and where to continue.

Records without an id get one; the first ten ids are printed. With ids of their
own, a whole input can be repeated safely. With --json, {\"ids\", \"accepted\", \"duplicates\"} is written
while records are accepted.

Examples:
  fieldsync enqueue visits.ndjson
  fieldsync enqueue --type Visits --key-field account payloads.ndjson
  echo '{\"type\": \"Visits\", \"payload\": {}}' | fieldsync enqueue")]
pub(crate) struct EnqueueArgs {
    /// The input consists of bare payloads, all of this type
    #[arg(long = "type", value_name = "T")]
    pub(crate) record_type: Option<String>,
    /// Field of the payload to use as the key: records with the same key are sent in order
    #[arg(long, value_name = "F", requires = "record_type")]
    pub(crate) key_field: Option<String>,
    /// How long to wait for the daemon if the connection is lost
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    pub(crate) retry_for: Duration,
    /// Files to read; `-` or no file means standard input
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

pub(crate) async fn run(args: &EnqueueArgs, context: &mut CommandContext<'_>) -> Result<u8, CommandFailure> {
    // Requested first, so that a missing daemon is noticed before gigabytes are read.
    let limits: StatusLimits = decode_json(&context.client.get("/v1/status").await?)?;
    enqueue_files(args, limits.queue.max_record_bytes, context).await
}

/// The limits in the daemon's status.
#[derive(Deserialize)]
struct StatusLimits {
    queue: QueueStatusLimits,
}

#[derive(Deserialize)]
struct QueueStatusLimits {
    /// A daemon that does not report it refuses records that are too large.
    max_record_bytes: Option<u64>,
}

async fn enqueue_files(
    args: &EnqueueArgs,
    max_payload: Option<u64>,
    context: &mut CommandContext<'_>,
) -> Result<u8, CommandFailure> {
    let notes = context.note_writer();
    let rules = InputRules::new(args.record_type.as_deref(), args.key_field.as_deref())?
        .with_max_payload(max_payload);
    let standard_input = [PathBuf::from("-")];
    let files = if args.files.is_empty() { &standard_input[..] } else { &args.files };
    if files.iter().filter(|file| file.as_path() == Path::new("-")).count() > 1 {
        let message = "standard input (`-`) is named more than once, but can be read only once. Nothing was stored. \
                       Name it once.";
        return Err(CommandFailure::new(exit::USAGE, message));
    }
    let mut sources =
        files.iter().map(|file| InputSource::open(file, notes)).collect::<Result<Vec<_>, _>>()?;
    let total = check_all(&rules, &mut sources)?;

    let names: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
    let mut sender =
        ChunkSender::new(&context.client, args.retry_for, &names, notes, progress::storing_bar(total));
    let mut ids = if context.json {
        IdsOutput::Document(IdsDocument::new(&mut *context.out))
    } else {
        IdsOutput::Text(FirstIds::default())
    };
    let sent = send_all(&rules, &mut sources, &mut sender, &mut ids).await;
    let (accepted, duplicates) = sender.finish();
    let printed = match ids {
        IdsOutput::Document(ids) => ids.finish(accepted, duplicates, sent.is_ok()),
        IdsOutput::Text(_) if sent.is_err() => Ok(()),
        IdsOutput::Text(ids) => print_enqueued(context.out, &ids, accepted, duplicates),
    };
    let printed = printed.map_err(|error| {
        let done = match accepted + duplicates {
            1 => "1 record is stored; only this output could not be written. Do not enqueue it again.".to_owned(),
            stored => format!(
                "{stored} records are stored; only this output could not be written. Do not enqueue them again."
            ),
        };
        CommandFailure::output_failed(&error, &done)
    });
    sent.and(printed).map(|()| exit::DONE)
}

fn print_enqueued(out: &mut dyn Write, ids: &FirstIds, accepted: u64, duplicates: u64) -> io::Result<()> {
    ids.print(out)?;
    writeln!(out, "Enqueued {} ({})", count(accepted, "record"), count(duplicates, "duplicate"))?;
    out.flush()
}

/// The first pass: checks all records, and counts them.
fn check_all(rules: &InputRules<'_>, sources: &mut [InputSource]) -> Result<u64, CommandFailure> {
    let bar = progress::checking_bar(sources.iter().map(|source| source.bytes).sum());
    let mut total = 0;
    for source in sources {
        let name = source.name.clone();
        let mut items = ItemReader::new(bar.wrap_read(source.open_reader()?), rules.max_item_bytes());
        let mut check = || -> Result<Option<()>, InputError> {
            items.next()?.map(|item| rules.check_item(&item)).transpose()
        };
        loop {
            match check() {
                Ok(Some(())) => total += 1,
                Ok(None) => break,
                Err(mistake) => {
                    bar.finish_and_clear();
                    return Err(mistake.to_failure(&name));
                }
            }
        }
    }
    bar.finish_and_clear();
    Ok(total)
}

/// The second pass: sends all records.
async fn send_all(
    rules: &InputRules<'_>,
    sources: &mut [InputSource],
    sender: &mut ChunkSender<'_>,
    ids: &mut IdsOutput<'_>,
) -> Result<(), CommandFailure> {
    let mut interrupt = Interrupt::new()?;
    let mut chunk = RecordChunk::default();
    for (number, source) in sources.iter_mut().enumerate() {
        let mut items = ItemReader::new(source.open_reader()?, rules.max_item_bytes());
        loop {
            // The file may have changed since the check. Then the records of the present chunk are not sent.
            let record = match items.next() {
                Ok(None) => break,
                Ok(Some(item)) => rules.prepare_record(&item).map(|record| {
                    let position = Position { source: number, line: item.line, element: item.element };
                    (record, position)
                }),
                Err(error) => Err(error),
            };
            let (record, position) = record.map_err(|error| sender.input_failure(&error, number))?;
            if !chunk.has_room_for(&record, sender.max_bytes()) {
                send_in_parts(mem::take(&mut chunk), sender, &mut interrupt, ids).await?;
            }
            chunk.push(&record, position);
        }
    }
    if !chunk.is_empty() {
        send_in_parts(chunk, sender, &mut interrupt, ids).await?;
    }
    Ok(())
}

/// Sends a chunk, in parts if the daemon accepts less in one request.
async fn send_in_parts(
    chunk: RecordChunk,
    sender: &mut ChunkSender<'_>,
    interrupt: &mut Interrupt,
    ids: &mut IdsOutput<'_>,
) -> Result<(), CommandFailure> {
    // A stack: the next part is the last element.
    let mut parts = vec![chunk];
    while let Some(part) = parts.pop() {
        let (outcome, interrupted) = {
            let sending = sender.send_chunk(&part);
            tokio::pin!(sending);
            tokio::select! {
                outcome = &mut sending => (Some(outcome), false),
                () = interrupt.wait() => (timeout(LAST_RESPONSE_TIMEOUT, sending).await.ok(), true),
            }
        };
        let outcome = outcome.transpose()?;
        let in_doubt = outcome.is_none();
        match outcome {
            Some(ChunkOutcome::Stored) => ids.push(part.ids()),
            Some(ChunkOutcome::TooLarge([first, second])) => parts.extend([second, first]),
            None => {}
        }
        if interrupted {
            return Err(sender.interrupted_failure(&part, in_doubt));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
