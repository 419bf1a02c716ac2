//! `fieldsync batches`: the results of recent batches, and why they had their size. Also describes one send of a batch for
//! other commands.

use std::collections::HashSet;
use std::time::Duration;

use super::context::CommandContext;
use super::failure::CommandFailure;
use super::format::{count, duration, relative, size, strip_controls, timestamp, with_spaces};
use super::id_completion;
use super::record_ids::IdPart;
use super::state_words::class_word;
use super::table::{Cell, Column, TextTable, prose_column, whole_column};
use crate::api::batch_reasons::short_id;
use crate::api::{BatchList, BatchOutcome, BatchReport};
use crate::client::{decode_json, with_query};
use crate::clock::{millis, rfc3339, wall_ms};
use crate::exit;

const COLUMNS: [Column; 7] = [
    whole_column("WHEN"),
    whole_column("BATCH"),
    whole_column("NO"),
    whole_column("RECORDS"),
    whole_column("OUTCOME"),
    prose_column("WHY THIS SIZE"),
    prose_column("NOTE"),
];

const BATCHES_DEFAULT: u32 = 20;
/// The daemon keeps no more.
const BATCHES_MAX: u32 = 500;

#[derive(Debug, Default, clap::Args)]
#[command(after_help = "\
Without an ID, lists the last 20 batches, the newest first; each send is a line.
With an ID, shows one batch: its records, how it was sent, and why it had its
size.

Examples:
  fieldsync batches --since 1h
  fieldsync batches 3f2a91bc")]
pub(crate) struct BatchesArgs {
    /// Id of a batch, or any unique beginning or end of it
    #[arg(add = id_completion::batches())]
    pub(super) id: Option<IdPart>,
    /// Only batches that ended in this time, for example 2h
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration, conflicts_with = "id")]
    since: Option<Duration>,
    /// Maximum number of batches to show [default: 20; all with --since]
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "id")]
    limit: Option<u32>,
    /// Print only the ids
    #[arg(long, short, conflicts_with = "id")]
    quiet: bool,
    /// Print whole ids
    #[arg(long)]
    pub(super) no_trunc: bool,
}

/// Lists batches. One of them is shown by `batch_detail.rs`.
pub(crate) async fn run(args: &BatchesArgs, context: &mut CommandContext<'_>) -> Result<u8, CommandFailure> {
    let limit = args.limit.unwrap_or(if args.since.is_some() { BATCHES_MAX } else { BATCHES_DEFAULT });
    let limit = limit.to_string();
    let since = args.since.map(|since| rfc3339(wall_ms().saturating_sub(millis(since))));
    let mut pairs = vec![("limit", limit.as_str())];
    pairs.extend(since.as_deref().map(|since| ("since", since)));
    let response = context.client.get(&with_query("/v1/batches", &pairs)).await?;
    if args.quiet && !context.json {
        let BatchList { mut batches } = decode_json(&response)?;
        // A batch that was sent several times is one batch.
        let mut printed = HashSet::new();
        batches.retain(|batch| printed.insert(batch.id));
        batches.iter().try_for_each(|batch| context.print_line(batch.id.to_string()))?;
        return Ok(exit::DONE);
    }
    context.print_response(&response, |context, list: BatchList| {
        print_batches(context, &list, args.no_trunc, wall_ms())
    })?;
    Ok(exit::DONE)
}

fn print_batches(
    context: &mut CommandContext<'_>,
    list: &BatchList,
    no_trunc: bool,
    now: u64,
) -> Result<(), CommandFailure> {
    if list.batches.is_empty() {
        return context.print_line("No batch was sent.");
    }
    let is_short = context.is_terminal && !no_trunc;
    print_sends(context, &list.batches, is_short, now)
}

/// A table of sends, one in each row.
pub(crate) fn print_sends(
    context: &mut CommandContext<'_>,
    batches: &[BatchReport],
    is_short: bool,
    now: u64,
) -> Result<(), CommandFailure> {
    let mut table = TextTable::new(&COLUMNS);
    for batch in batches {
        table.push_row([
            Cell::from(relative(batch.at, now)),
            if is_short { short_id(batch.id).into() } else { batch.id.to_string().into() },
            batch.sequence.into(),
            format!("{}, {}", batch.records, size(batch.bytes)).into(),
            short_result(batch).into(),
            strip_controls(&batch.describe_size()).into(),
            // A complete success needs no note.
            if is_all_synced(batch) {
                String::new().into()
            } else {
                strip_controls(batch.describe_result()).into()
            },
        ]);
    }
    table.print(context)
}

fn is_all_synced(batch: &BatchReport) -> bool {
    batch.outcome == BatchOutcome::Answered && batch.synced == batch.records
}

/// Short enough for a column: `all synced, 950 ms`, `try 2: timed out, 1 min (HTTP 504)`
fn short_result(batch: &BatchReport) -> String {
    let took = duration(batch.duration_ms);
    let result = match batch.outcome.known() {
        Some(BatchOutcome::Answered) if is_all_synced(batch) => format!("all synced, {took}"),
        Some(BatchOutcome::Answered) => format!("{} synced, {took}", batch.synced),
        _ => format!("{}, {took}{}", outcome_cause(batch), http_suffix(batch)),
    };
    if batch.attempt > 1 { format!("try {}: {result}", batch.attempt) } else { result }
}

fn outcome_cause(batch: &BatchReport) -> String {
    match batch.outcome.known() {
        Some(BatchOutcome::Timeout) => "timed out".to_owned(),
        _ => with_spaces(&class_word(&batch.outcome.to_string())),
    }
}

/// ` (HTTP 504)`
fn http_suffix(batch: &BatchReport) -> String {
    batch.http_status.map_or_else(String::new, |status| format!(" (HTTP {status})"))
}

/// `answered after 950 ms (HTTP 200), 25 synced`, `timed out after 1 min (HTTP 504)`
fn describe_end(batch: &BatchReport) -> String {
    let synced = match batch.synced {
        0 if batch.outcome != BatchOutcome::Answered => String::new(),
        synced => format!(", {synced} synced"),
    };
    format!("{} after {}{}{synced}", outcome_cause(batch), duration(batch.duration_ms), http_suffix(batch))
}

/// One send of a batch in the history of a record:
/// `2026-03-01T08:15:30.120Z (12 s ago)  batch 3f2a91bc, 38 records (learned: …), try 1: timed out after 1 min
/// (HTTP 504); cut into 7 parts`
pub(crate) fn attempt_line(batch: &BatchReport, now: u64) -> String {
    let done = match strip_controls(batch.describe_result()) {
        done if done.is_empty() => String::new(),
        done => format!("; {done}"),
    };
    format!(
        "{}  batch {}, {} ({}), try {}: {}{done}",
        timestamp(batch.at, now),
        short_id(batch.id),
        count(batch.records as u64, "record"),
        strip_controls(&batch.describe_size()),
        batch.attempt,
        describe_end(batch),
    )
}

/// Whether this send counts as an attempt for its records: the server may have received them.
pub(crate) fn is_attempt(batch: &BatchReport) -> bool {
    use crate::api::BatchOutcome::{Answered, ConnectionLost, LinkTooSlow, ServerError, Timeout};
    let seen = [Answered, Timeout, ServerError, ConnectionLost, LinkTooSlow];
    batch.outcome.known().is_some_and(|outcome| seen.contains(&outcome))
}

/// `answered (HTTP 200)`
fn describe_outcome(batch: &BatchReport) -> String {
    with_spaces(&class_word(&batch.outcome.to_string())) + &http_suffix(batch)
}

/// One send of a batch in a sentence, for `events`.
pub(crate) fn batch_sentence(batch: &BatchReport) -> String {
    let mut text = format!(
        "{} of {}, try {}: {} after {}, {} synced",
        batch.sequence,
        count(batch.records as u64, "record"),
        batch.attempt,
        describe_outcome(batch),
        duration(batch.duration_ms),
        batch.synced,
    );
    if !batch.note.is_empty() {
        text.push_str("; ");
        text.push_str(&strip_controls(&batch.note));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples::{sample_parent, sample_report};
    use crate::client::scripted::{ScriptedDaemon, response_step};
    use crate::model::SizeRule;

    fn sample_reports() -> [BatchReport; 2] {
        let learned = BatchReport {
            expected_ms: Some(27_300),
            at_most_ms: Some(33_000),
            ..sample_report(SizeRule::Learned, None)
        };
        let split = BatchReport {
            records: 19,
            attempt: 2,
            outcome: BatchOutcome::Timeout.into(),
            http_status: Some(504),
            duration_ms: 60_000,
            synced: 0,
            note: "the server responded with HTTP 504: cut into 7 parts".into(),
            ..sample_report(SizeRule::Split, Some(sample_parent()))
        };
        [learned, split]
    }

    #[test]
    fn an_attempt_is_one_line() {
        let [learned, split] = sample_reports();
        assert_eq!(
            attempt_line(&learned, 22_000),
            format!(
                "1970-01-01T00:00:10.000Z (12 s ago)  batch {}, 25 records (learned: 27.3 s expected, 33.0 s at most, limit 1 min), try 1: \
                 answered after 27 s (HTTP 200), 25 synced; a result for each record",
                short_id(learned.id)
            )
        );
        assert_eq!(
            attempt_line(&split, 22_000),
            format!(
                "1970-01-01T00:00:10.000Z (12 s ago)  batch {}, 19 records (split of 3f2a91bc), try 2: timed out after 1 min (HTTP 504); \
                 cut into 7 parts",
                short_id(split.id)
            )
        );
    }

    #[tokio::test]
    async fn a_pipe_gets_one_line_for_each_batch() {
        let [learned, split] = sample_reports();
        let list = serde_json::to_string(&BatchList { batches: vec![split, learned] }).unwrap();
        let daemon = ScriptedDaemon::new(vec![response_step(200, &list)]);
        let args = BatchesArgs::default();
        let run =
            crate::cli::testing::run_verb(&daemon, false, async |context| super::run(&args, context).await);
        let (code, text) = run.await;
        assert_eq!(code, Ok(0));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        for part in ["try 2: timed out, 1 min (HTTP 504)", "split of 3f2a91bc"] {
            assert!(lines[1].contains(part), "{text}");
        }
        assert!(lines[1].ends_with("cut into 7 parts"), "{text}");
        assert!(lines[2].contains("  all synced, 27 s  "), "{text}");
        let why = "learned: 27.3 s expected, 33.0 s at most, limit 1 min";
        assert!(lines[2].trim_end().ends_with(why), "{text}");
    }
}
