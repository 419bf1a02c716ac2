//! `fieldsync enqueue`: records from files or standard input into the daemon's queue.
//!
//! Input is read twice where that is possible: once to check it whole, so that a mistake in line 5,000
//! is found before line 1 is stored, and once to send it. Pipes are kept in memory for that, up to a
//! limit. Every record has its id before it is sent, so that a chunk whose answer was lost is sent
//! again as it is, and the daemon knows what it has. Memory is bound by one chunk and one record,
//! however large the input; `--json` adds 16 bytes a record, for the ids that it prints.

mod check;
mod items;
mod send;
mod source;

use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use self::check::Form;
use self::items::Items;
use self::send::{Chunk, Position, Sender};
use self::source::Source;
use super::context::Context;
use super::failure::Failure;
use super::words::count;
use crate::exit;
use crate::ipc::api::Accepted;

/// Above this many records a bar is worth its place.
const BAR_FROM: u64 = 1000;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A record is {\"id\"?: UUID, \"type\": text, \"key\"?: text, \"priority\"?: 0-9, \"payload\": object}.
Records stand one a line (NDJSON) or in one JSON array. Everything is checked first: a mistake anywhere
stores nothing, except in a pipe of more than 8 MiB, which is stored as it comes.")]
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
    let form = Form::new(args.record_type.as_deref(), args.key_field.as_deref())?;
    let standard_input = [PathBuf::from("-")];
    let files = if args.files.is_empty() { &standard_input[..] } else { &args.files };
    let mut sources = files.iter().map(|file| Source::open(file)).collect::<Result<Vec<_>, _>>()?;
    let total = check_all(&form, &mut sources)?;

    let names: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
    let mut sender = Sender::new(&context.client, args.retry_for, &names, bar(total));
    if context.json {
        sender.keep_ids();
    }
    send_all(&form, &mut sources, &mut sender).await?;
    let Accepted { accepted, duplicates, ids } = sender.finish();
    if context.json {
        let answer = Accepted { accepted, duplicates, ids };
        serde_json::to_writer(&mut *context.out, &answer).map_err(std::io::Error::from)?;
        context.line("")?;
    } else {
        let duplicates = count(duplicates, "duplicate");
        context.line(format!("Enqueued {} ({duplicates})", count(accepted, "record")))?;
    }
    Ok(exit::DONE)
}

/// The first pass. Returns how many records there are, when all of them could be looked at.
fn check_all(form: &Form<'_>, sources: &mut [Source]) -> Result<Option<u64>, Failure> {
    let mut total = Some(0);
    for source in sources {
        if !source.can_repeat() {
            total = None;
            continue;
        }
        let mut items = Items::new(source.reader()?);
        while let Some(item) = items.next().map_err(|error| error.nothing_stored(&source.name))? {
            form.check(&item).map_err(|error| error.nothing_stored(&source.name))?;
            total = total.map(|total| total + 1);
        }
    }
    Ok(total)
}

/// The second pass.
async fn send_all(form: &Form<'_>, sources: &mut [Source], sender: &mut Sender<'_>) -> Result<(), Failure> {
    let mut chunk = Chunk::default();
    for (number, source) in sources.iter_mut().enumerate() {
        let mut items = Items::new(source.reader()?);
        loop {
            // What is gathered and whole was read before the mistake, and is not sent: the whole chunk stands or falls.
            let record = match items.next() {
                Ok(None) => break,
                Ok(Some(item)) => form.record(&item).map(|record| (record, item.line)),
                Err(error) => Err(error),
            };
            let (record, line) = record.map_err(|error| sender.refused(&error, number))?;
            if !chunk.fits(&record) {
                sender.send(&chunk).await?;
                chunk.clear();
            }
            chunk.push(&record, Position { source: number, line });
        }
    }
    if !chunk.is_empty() {
        sender.send(&chunk).await?;
    }
    Ok(())
}

fn bar(total: Option<u64>) -> ProgressBar {
    let target = ProgressDrawTarget::stderr();
    let (bar, template) = match total {
        Some(total) if total <= BAR_FROM => return ProgressBar::hidden(),
        Some(total) => (
            ProgressBar::with_draw_target(Some(total), target),
            "Enqueued {pos} of {len} records {wide_bar} {percent} %",
        ),
        None => (ProgressBar::with_draw_target(None, target), "Enqueued {pos} records"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests;
