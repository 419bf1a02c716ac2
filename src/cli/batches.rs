//! `fieldsync batches`: what became of recent batches, and why they had their size.

use super::context::Context;
use super::failure::Failure;
use super::table::{print, table};
use super::words::{count, plain, size, spaced, span, when};
use crate::clock::wall_ms;
use crate::exit;
use crate::ipc::api::{BatchList, BatchReport};
use crate::ipc::client::with_query;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Most batches to show
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

pub(crate) async fn run(args: &Args, context: &mut Context<'_>) -> Result<u8, Failure> {
    let path = with_query("/v1/batches", &[("limit", &args.limit.to_string())]);
    let answer = context.client.get(&path).await?;
    context.present(&answer, |context, list: BatchList| view(context, &list, wall_ms()))?;
    Ok(exit::DONE)
}

fn view(context: &mut Context<'_>, list: &BatchList, now: u64) -> Result<(), Failure> {
    if list.batches.is_empty() {
        return context.line("No batch was sent yet.");
    }
    let header =
        ["WHEN", "BATCH", "NO", "RECORDS", "BYTES", "TRY", "OUTCOME", "TOOK", "SYNCED", "SIZED BY", "NOTE"];
    let mut table = table(context, &header);
    for batch in &list.batches {
        table.add_row([
            when(batch.at, now),
            short(&batch.id.to_string()),
            batch.sequence.to_string(),
            batch.records.to_string(),
            size(batch.bytes),
            batch.attempt.to_string(),
            outcome(batch),
            span(batch.duration_ms),
            batch.synced.to_string(),
            spaced(&batch.rule),
            plain(&batch.note).into_owned(),
        ]);
    }
    print(context, table)
}

/// `answered (HTTP 200)`
fn outcome(batch: &BatchReport) -> String {
    match batch.http_status {
        Some(status) => format!("{} (HTTP {status})", spaced(&batch.outcome)),
        None => spaced(&batch.outcome),
    }
}

/// One send of a batch in a sentence, as `events` tells it.
pub(crate) fn sentence(batch: &BatchReport) -> String {
    let mut text = format!(
        "{} of {}, try {}: {} after {}, {} synced",
        batch.sequence,
        count(batch.records as u64, "record"),
        batch.attempt,
        outcome(batch),
        span(batch.duration_ms),
        batch.synced,
    );
    if !batch.note.is_empty() {
        text.push_str("; ");
        text.push_str(&plain(&batch.note));
    }
    text
}

/// Enough of a random id to find it in the journal.
fn short(id: &str) -> String {
    id.chars().take(8).collect()
}
