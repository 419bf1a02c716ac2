//! `fieldsync list`: lists records page by page, so that a long queue needs little memory.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::context::CommandContext;
use super::failure::CommandFailure;
use super::format::{blocked_records, count, size, strip_controls};
use super::json_text;
use super::state_words::state_parser;
use super::table::{
    Cell, Column, TextTable, error_text, extra_column, name_column, prose_column, short_age, state_cell,
    whole_column,
};
use crate::api::RecordPage;
use crate::client::{Client, ClientError, decode_json, with_query};
use crate::clock::{millis, rfc3339, wall_ms};
use crate::exit;
use crate::model::{ManifestEntry, RecordId, RecordState};

const PAGE_RECORDS_MAX: u64 = 500;
const RECORDS_DEFAULT: u64 = 100;
const SYNCED_DEFAULT: u64 = 20;
const SYNCED_HEADING: &str = "Synced last:";
const COLUMNS: [Column; 9] = [
    whole_column("ID"),
    whole_column("STATE"),
    name_column("TYPE"),
    name_column("KEY"),
    whole_column("TRIES"),
    extra_column("SIZE"),
    extra_column("AGE"),
    prose_column("BLOCKS / BLOCKED BY"),
    prose_column("LAST ERROR"),
];
/// Digits of an id in a table on a terminal.
const SHORT_ID_DIGITS: usize = 8;
/// Lines of prose below a row. `show` prints all of it.
const PROSE_LINES_MAX: usize = 2;

#[derive(Debug, Default, clap::Args)]
#[command(after_help = "\
Lists what is not synced, the newest first, then the last 20 records that are.
With --state, --key or --since, lists what you ask for, the newest first. Shows
your own records; admins see the records of all users.

A record is waiting, sending (in a batch that is under way), synced, failed (it
will be sent again), needs review (the server did not accept it) or discarded by
a person. The names of the API are accepted, too: PENDING, SYNCING, SYNCED,
FAILED, QUARANTINED, DISCARDED.

On a terminal, ids are cut to their last 8 digits, and any unique beginning or
end of an id is accepted by all commands. On a narrow terminal, columns are cut
or omitted; a pipe gets one complete line for each record. With --json, records
are in the order of the queue, unless --key, --since or several states are given.

Examples:
  fieldsync list --state failed,needs-review
  fieldsync list --since 2h --key account-17
  fieldsync list --type Visits -n 1000 --json")]
pub(crate) struct ListArgs {
    /// Only records in these states
    #[arg(long, value_name = "S", value_delimiter = ',', value_parser = state_parser(), ignore_case = true)]
    pub(crate) state: Vec<RecordState>,
    /// Only this type
    #[arg(long = "type", value_name = "T")]
    pub(crate) record_type: Option<String>,
    /// Only records with this key
    #[arg(long, value_name = "K")]
    pub(crate) key: Option<String>,
    /// Only records that were enqueued in this time, for example 2h
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    pub(crate) since: Option<Duration>,
    /// Maximum number of records to list [default: 100, and 20 of those that are synced]
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// List every record, also those of other users, without their keys and error messages
    #[arg(long)]
    pub(crate) all: bool,
    /// Print only the ids
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Print whole ids on a terminal
    #[arg(long)]
    pub(crate) no_trunc: bool,
}

impl ListArgs {
    /// What is listed, one part after the other: what is not synced, then the last that are; or what was asked for.
    fn parts(&self) -> Vec<ListPart> {
        let limit = self.limit.unwrap_or(if self.all { u64::MAX } else { RECORDS_DEFAULT });
        let is_plain = self.state.is_empty() && self.since.is_none() && self.key.is_none() && !self.all;
        if !is_plain {
            return vec![ListPart { states: self.state.clone(), limit }];
        }
        let states =
            vec![RecordState::Pending, RecordState::Syncing, RecordState::Failed, RecordState::Quarantined];
        let synced = ListPart { states: vec![RecordState::Synced], limit: limit.min(SYNCED_DEFAULT) };
        vec![ListPart { states, limit }, synced]
    }
}

/// Records in some of the states, the newest first.
struct ListPart {
    /// All if it is empty.
    states: Vec<RecordState>,
    limit: u64,
}

/// The pages of a list, one request each.
pub(crate) struct RecordPages<'a> {
    client: &'a Client,
    args: &'a ListArgs,
    states: String,
    since: Option<String>,
    is_newest_first: bool,
    left: u64,
    /// `None` after the last page.
    cursor: Option<String>,
}

impl<'a> RecordPages<'a> {
    /// The records that the arguments name, in the order of the queue.
    pub(crate) fn in_queue_order(client: &'a Client, args: &'a ListArgs) -> Self {
        let limit = args.limit.unwrap_or(RECORDS_DEFAULT);
        let pages = Self::of_part(client, args, &ListPart { states: args.state.clone(), limit });
        Self { is_newest_first: false, ..pages }
    }

    fn of_part(client: &'a Client, args: &'a ListArgs, part: &ListPart) -> Self {
        let names: Vec<&str> = part.states.iter().map(|state| state.name()).collect();
        let since = args.since.map(|since| rfc3339(wall_ms().saturating_sub(millis(since))));
        let cursor = Some(String::new());
        Self { client, args, states: names.join(","), since, is_newest_first: true, left: part.limit, cursor }
    }

    /// The next page. `None` after the last one or at the limit.
    pub(crate) async fn next<P: ListPage>(&mut self) -> Result<Option<P>, ClientError> {
        let Some(cursor) = self.cursor.as_deref().filter(|_| self.left > 0) else {
            return Ok(None);
        };
        let limit = self.left.min(PAGE_RECORDS_MAX).to_string();
        let mut pairs = vec![("limit", limit.as_str())];
        pairs.extend(self.is_newest_first.then_some(("order", "newest")));
        pairs.extend(Some(("state", self.states.as_str())).filter(|(_, states)| !states.is_empty()));
        pairs.extend(self.args.record_type.as_deref().map(|name| ("type", name)));
        pairs.extend(self.args.key.as_deref().map(|key| ("key", key)));
        pairs.extend(self.since.as_deref().map(|since| ("since", since)));
        pairs.extend(self.args.all.then_some(("all", "true")));
        if !cursor.is_empty() {
            pairs.push(("after", cursor));
        }
        let response = self.client.get(&with_query("/v1/records", &pairs)).await?;
        let page: P = decode_json(&response)?;
        let (records, next) = page.extent();
        self.left = self.left.saturating_sub(records);
        // An empty page may not be the last. A cursor that does not change would cause an endless loop.
        self.cursor = next.filter(|next| *next != cursor).map(str::to_owned);
        Ok(Some(page))
    }
}

/// A page, with its records parsed or raw.
pub(crate) trait ListPage: serde::de::DeserializeOwned {
    /// The number of records, and the cursor of the next page.
    fn extent(&self) -> (u64, Option<&str>);
}

impl ListPage for RecordPage {
    fn extent(&self) -> (u64, Option<&str>) {
        (self.records.len() as u64, self.next.as_deref())
    }
}

#[derive(Deserialize)]
struct RawPage {
    records: Vec<Box<RawValue>>,
    next: Option<String>,
}

impl ListPage for RawPage {
    fn extent(&self) -> (u64, Option<&str>) {
        (self.records.len() as u64, self.next.as_deref())
    }
}

pub(crate) async fn run(args: &ListArgs, context: &mut CommandContext<'_>) -> Result<u8, CommandFailure> {
    list_records(args, context, "No such records.").await
}

pub(crate) async fn list_records(
    args: &ListArgs,
    context: &mut CommandContext<'_>,
    nothing: &str,
) -> Result<u8, CommandFailure> {
    let client = context.client.clone();
    let parts = args.parts();
    let mut parts: Vec<_> = parts.iter().map(|part| RecordPages::of_part(&client, args, part)).collect();
    if context.json {
        if args.state.len() <= 1 && args.key.is_none() && args.since.is_none() {
            parts = vec![RecordPages::in_queue_order(&client, args)];
        }
        return list_json(&mut parts, context).await;
    }
    let (mut shown, mut is_cut) = (0, false);
    // Short lists are one table, so that the columns of their parts line up.
    let mut next = TablePart { has_header: true, ..TablePart::default() };
    for (n, pages) in parts.iter_mut().enumerate() {
        let others = shown;
        while let Some(page) = pages.next::<RecordPage>().await? {
            if args.quiet {
                page.records.iter().try_for_each(|record| context.print_line(record.id.to_string()))?;
            } else {
                if n > 0 && others > 0 && shown == others {
                    next.synced_from = Some(next.records.len());
                }
                next.records.extend_from_slice(&page.records);
            }
            shown += page.records.len();
            if next.records.len() as u64 >= PAGE_RECORDS_MAX {
                next.print(context, args)?;
                next = TablePart::default();
            }
        }
        is_cut |= pages.cursor.is_some();
    }
    if !next.records.is_empty() {
        next.print(context, args)?;
    }
    if shown == 0 && !args.quiet {
        context.print_line(nothing)?;
    } else if is_cut && !args.quiet {
        context
            .print_note(&format!("Only {} shown; for more: -n N, or --all", count(shown as u64, "record")));
    }
    Ok(exit::DONE)
}

async fn list_json(
    parts: &mut [RecordPages<'_>],
    context: &mut CommandContext<'_>,
) -> Result<u8, CommandFailure> {
    let mut separator = "{\"records\":[";
    for pages in &mut *parts {
        while let Some(page) = pages.next::<RawPage>().await? {
            for record in page.records {
                write!(context.out, "{separator}{}", json_text::compact_json(record.get()))?;
                separator = ",";
            }
        }
    }
    if separator != "," {
        write!(context.out, "{separator}")?;
    }
    let next = parts.first_mut().and_then(|pages| pages.cursor.take());
    context.print_line(format!("],\"next\":{}}}", serde_json::Value::from(next)))?;
    Ok(exit::DONE)
}

/// Records that are printed together.
#[derive(Default)]
struct TablePart {
    records: Vec<ManifestEntry>,
    /// The first of those that are synced, below others.
    synced_from: Option<usize>,
    has_header: bool,
}

impl TablePart {
    fn print(&self, context: &mut CommandContext<'_>, args: &ListArgs) -> Result<(), CommandFailure> {
        let now = wall_ms();
        let is_short = context.is_terminal && !args.no_trunc;
        let mut table = TextTable::new(&COLUMNS).with_prose_lines_max(PROSE_LINES_MAX);
        if !self.has_header {
            table = table.without_header();
        }
        for (n, record) in self.records.iter().enumerate() {
            if self.synced_from == Some(n) {
                table.set_heading(SYNCED_HEADING);
            }
            table.push_row([
                Cell::from(show_id(record.id, is_short)),
                state_cell(record.state),
                strip_controls(&record.record_type).into(),
                strip_controls(record.key.as_deref().unwrap_or("")).into(),
                record.sends.max(record.attempts).into(),
                size(record.payload_bytes).into(),
                short_age(record.created_at, now).into(),
                describe_blocking(record, is_short).into(),
                record.last_error.as_ref().map(error_text).unwrap_or_default().into(),
            ]);
        }
        table.print(context)
    }
}

/// The last digits of an id: ids of one minute share their beginning.
pub(crate) fn show_id(id: RecordId, is_short: bool) -> String {
    let whole = id.to_string();
    let start = whole.len().saturating_sub(SHORT_ID_DIGITS);
    whole.get(start..).filter(|_| is_short).map(str::to_owned).unwrap_or(whole)
}

/// The record that blocks it, or how many records it blocks.
fn describe_blocking(record: &ManifestEntry, is_short: bool) -> String {
    match record.blocked_by {
        Some(blocker) => format!("blocked by {}", show_id(blocker, is_short)),
        None if record.blocked_count > 0 => format!("blocks {}", blocked_records(record.blocked_count)),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{rejected_entry, run_verb};
    use super::*;
    use crate::client::scripted::{ScriptStep, ScriptedDaemon, response_step};

    fn page_response(records: &[ManifestEntry], next: Option<&str>) -> ScriptStep {
        let page =
            RecordPage { records: records.to_vec(), unknown: Vec::new(), next: next.map(str::to_owned) };
        response_step(200, &serde_json::to_string(&page).unwrap())
    }

    fn list_args(limit: u64) -> ListArgs {
        ListArgs {
            state: vec![RecordState::Failed],
            record_type: Some("Visits".to_owned()),
            limit: Some(limit),
            ..ListArgs::default()
        }
    }

    #[tokio::test]
    async fn what_is_not_synced_comes_first_then_the_last_that_are() {
        let [waiting, synced] = [(2, RecordState::Pending), (1, RecordState::Synced)]
            .map(|(seq, state)| rejected_entry(seq, state));
        let daemon = ScriptedDaemon::new(vec![
            page_response(std::slice::from_ref(&waiting), None),
            page_response(std::slice::from_ref(&synced), Some("1")),
        ]);
        let quiet = ListArgs { quiet: true, ..ListArgs::default() };
        let (_, text) = run_verb(&daemon, false, async |context| super::run(&quiet, context).await).await;
        assert_eq!(text, format!("{}\n{}\n", waiting.id, synced.id));
        let calls = daemon.into_calls();
        let first =
            "GET /v1/records?limit=100&order=newest&state=PENDING%2CSYNCING%2CFAILED%2CQUARANTINED HTTP/1.1";
        assert_eq!(calls[0].head.lines().next(), Some(first));
        let second = "GET /v1/records?limit=20&order=newest&state=SYNCED HTTP/1.1";
        assert_eq!(calls[1].head.lines().next(), Some(second));
    }

    #[test]
    fn ids_are_cut_to_their_end_on_a_terminal() {
        let id: RecordId = "0191b3a0-0000-7000-8000-0000deadbeef".parse().unwrap();
        assert_eq!(show_id(id, true), "deadbeef");
        assert_eq!(show_id(id, false), id.to_string());
    }

    #[tokio::test]
    async fn pages_are_followed_up_to_the_limit() {
        let records = [1, 2, 3].map(|seq| rejected_entry(seq, RecordState::Failed));
        let daemon = ScriptedDaemon::new(vec![
            page_response(&records[..2], Some("c2")),
            page_response(&records[2..], Some("c3")),
        ]);
        let (code, text) =
            run_verb(&daemon, true, async |context| super::run(&list_args(3), context).await).await;
        assert_eq!(code, Ok(0));
        let listed: RecordPage = serde_json::from_str(&text).unwrap();
        assert_eq!(listed.records, records);
        assert_eq!(listed.next.as_deref(), Some("c3"));
        assert_eq!(text.lines().count(), 1);
        let calls = daemon.into_calls();
        let first = "GET /v1/records?limit=3&state=FAILED&type=Visits HTTP/1.1";
        assert_eq!(calls[0].head.lines().next(), Some(first));
        let second = "GET /v1/records?limit=1&state=FAILED&type=Visits&after=c2 HTTP/1.1";
        assert_eq!(calls[1].head.lines().next(), Some(second));
    }

    #[tokio::test]
    async fn empty_pages_are_skipped_and_a_repeated_cursor_ends_the_list() {
        let records = [rejected_entry(1, RecordState::Failed)];
        let daemon = ScriptedDaemon::new(vec![
            page_response(&[], Some("c1")),
            page_response(&[], Some("c2")),
            page_response(&records, Some("c3")),
            page_response(&[], Some("c3")),
        ]);
        let args = ListArgs { all: true, ..list_args(3) };
        let (_, text) = run_verb(&daemon, true, async |context| super::run(&args, context).await).await;
        let listed: RecordPage = serde_json::from_str(&text).unwrap();
        assert_eq!((listed.records.as_slice(), listed.next), (records.as_slice(), None));
        let last = "GET /v1/records?limit=2&state=FAILED&type=Visits&all=true&after=c3 HTTP/1.1";
        assert_eq!(daemon.into_calls()[3].head.lines().next(), Some(last));
    }

    #[tokio::test]
    async fn an_empty_list_is_printed() {
        let daemon = ScriptedDaemon::new(vec![page_response(&[], None), page_response(&[], None)]);
        let (_, text) =
            run_verb(&daemon, true, async |context| super::run(&list_args(3), context).await).await;
        assert_eq!(text, "{\"records\":[],\"next\":null}\n");
        let (_, text) =
            run_verb(&daemon, false, async |context| super::run(&list_args(3), context).await).await;
        assert_eq!(text, "No such records.\n");
    }

    #[tokio::test]
    async fn a_record_is_one_row_with_its_error() {
        let records = [rejected_entry(1, RecordState::Failed)];
        let daemon = ScriptedDaemon::new(vec![page_response(&records, None)]);
        let (_, text) =
            run_verb(&daemon, false, async |context| super::run(&list_args(3), context).await).await;
        let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row[..7], [&records[0].id.to_string(), "failed", "Visits", "Acme", "1", "2.0", "KiB"]);
        assert!(text.ends_with("rejected (HTTP 422) BAD_DATE: no such day\n"), "{text}");
    }
}
