//! `fieldsync list`: lists records page by page, so that a long queue needs little memory.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::context::CommandContext;
use super::failure::CommandFailure;
use super::format::{blocked_records, size, strip_controls};
use super::json_text;
use super::table::{
    Cell, Column, TextTable, error_text, extra_column, name_column, prose_column, short_age, state_cell,
    whole_column,
};
use crate::api::RecordPage;
use crate::client::{Client, ClientError, decode_json, with_query};
use crate::clock::wall_ms;
use crate::exit;
use crate::model::{ManifestEntry, RecordState};

const PAGE_RECORDS_MAX: u64 = 500;
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
/// Lines of prose below a row. `show` prints all of it.
const PROSE_LINES_MAX: usize = 2;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Lists your own records; admins see the records of all users.
On a narrow terminal, columns are cut or omitted; a pipe gets one complete line
for each record.

Examples:
  fieldsync list --state FAILED
  fieldsync list --type Visits --limit 1000 --json")]
pub(crate) struct ListArgs {
    /// Only this state: PENDING, SYNCING, SYNCED, FAILED or QUARANTINED
    #[arg(long, value_name = "S")]
    pub(crate) state: Option<RecordState>,
    /// Only this type
    #[arg(long = "type", value_name = "T")]
    pub(crate) record_type: Option<String>,
    /// Maximum number of records to list
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: u64,
    /// Also list records of other users, without their keys and error messages; admins always see all
    #[arg(long)]
    pub(crate) all: bool,
}

/// The pages of a list, one request each.
pub(crate) struct RecordPages<'a> {
    client: &'a Client,
    state: Option<RecordState>,
    record_type: Option<&'a str>,
    all: bool,
    left: u64,
    /// `None` after the last page.
    cursor: Option<String>,
}

impl<'a> RecordPages<'a> {
    pub(crate) fn new(client: &'a Client, args: &'a ListArgs) -> Self {
        Self {
            client,
            state: args.state,
            record_type: args.record_type.as_deref(),
            all: args.all,
            left: args.limit,
            cursor: Some(String::new()),
        }
    }

    /// The next page. `None` after the last one or at the limit.
    pub(crate) async fn next<P: ListPage>(&mut self) -> Result<Option<P>, ClientError> {
        let Some(cursor) = self.cursor.as_deref().filter(|_| self.left > 0) else {
            return Ok(None);
        };
        let limit = self.left.min(PAGE_RECORDS_MAX).to_string();
        let mut pairs = vec![("limit", limit.as_str())];
        pairs.extend(self.state.map(|state| ("state", state.name())));
        pairs.extend(self.record_type.map(|name| ("type", name)));
        pairs.extend(self.all.then_some(("all", "true")));
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
    let mut pages = RecordPages::new(&client, args);
    if context.json {
        return list_json(&mut pages, context).await;
    }
    let mut shown = 0;
    while let Some(page) = pages.next::<RecordPage>().await? {
        if !page.records.is_empty() {
            print_page(context, &page.records, shown == 0, wall_ms())?;
        }
        shown += page.records.len();
    }
    if shown == 0 {
        context.print_line(nothing)?;
    } else if pages.cursor.is_some() {
        context.print_note(&format!("Only the first {shown} are shown; for more: --limit N"));
    }
    Ok(exit::DONE)
}

async fn list_json(
    pages: &mut RecordPages<'_>,
    context: &mut CommandContext<'_>,
) -> Result<u8, CommandFailure> {
    let mut separator = "{\"records\":[";
    while let Some(page) = pages.next::<RawPage>().await? {
        for record in page.records {
            write!(context.out, "{separator}{}", json_text::compact_json(record.get()))?;
            separator = ",";
        }
    }
    if separator != "," {
        write!(context.out, "{separator}")?;
    }
    let next = serde_json::Value::from(pages.cursor.take());
    context.print_line(format!("],\"next\":{next}}}"))?;
    Ok(exit::DONE)
}

fn print_page(
    context: &mut CommandContext<'_>,
    records: &[ManifestEntry],
    header: bool,
    now: u64,
) -> Result<(), CommandFailure> {
    let mut table = TextTable::new(&COLUMNS).with_prose_lines_max(PROSE_LINES_MAX);
    if !header {
        table = table.without_header();
    }
    for record in records {
        table.push_row([
            Cell::from(record.id),
            state_cell(record.state),
            strip_controls(&record.record_type).into(),
            strip_controls(record.key.as_deref().unwrap_or("")).into(),
            record.attempts.into(),
            size(record.payload_bytes).into(),
            short_age(record.created_at, now).into(),
            describe_blocking(record).into(),
            record.last_error.as_ref().map(error_text).unwrap_or_default().into(),
        ]);
    }
    table.print(context)
}

/// The record that blocks it, or how many records it blocks.
fn describe_blocking(record: &ManifestEntry) -> String {
    match record.blocked_by {
        Some(blocker) => format!("blocked by {blocker}"),
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
            state: Some(RecordState::Failed),
            record_type: Some("Visits".to_owned()),
            limit,
            all: false,
        }
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
        assert_eq!(row[..7], [&records[0].id.to_string(), "FAILED", "Visits", "Acme", "1", "2.0", "KiB"]);
        assert!(text.ends_with("rejected (HTTP 422) BAD_DATE: no such day\n"), "{text}");
    }
}
