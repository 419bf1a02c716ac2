//! `fieldsync list`: the manifest, page by page, so that a long queue needs no long memory.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::context::Context;
use super::failure::Failure;
use super::json_text;
use super::table::{Cell, Column, Table, age, error_text, extra, name, prose, state, whole};
use super::words::{held, plain, size};
use crate::api::RecordPage;
use crate::client::{Client, ClientError, decode_json, with_query};
use crate::clock::wall_ms;
use crate::exit;
use crate::model::{ManifestEntry, RecordState};

const PAGE: u64 = 500;
const COLUMNS: [Column; 9] = [
    whole("ID"),
    whole("STATE"),
    name("TYPE"),
    name("KEY"),
    whole("TRIES"),
    extra("SIZE"),
    extra("AGE"),
    prose("HOLDS / HELD BY"),
    prose("LAST ERROR"),
];
/// Lines of prose beneath a row; `show` tells the rest.
const MOST_PROSE: usize = 2;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Lists your own records; for admins, those of all users.
On a terminal, columns are cut or left out where there is no room; a pipe gets
one whole line a record.

Examples:
  fieldsync list --state FAILED
  fieldsync list --type Visits --limit 1000 --json")]
pub(crate) struct Args {
    /// Only this state: PENDING, SYNCING, SYNCED, FAILED or QUARANTINED
    #[arg(long, value_name = "S")]
    pub(crate) state: Option<RecordState>,
    /// Only this type
    #[arg(long = "type", value_name = "T")]
    pub(crate) record_type: Option<String>,
    /// Most records to list
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: u64,
    /// Those of other users, too, whose keys and error messages only they and admins see; admins see all anyway
    #[arg(long)]
    pub(crate) all: bool,
}

/// The pages of a list, one request each.
pub(crate) struct Pages<'a> {
    client: &'a Client,
    state: Option<RecordState>,
    record_type: Option<&'a str>,
    all: bool,
    left: u64,
    /// `None` at the end.
    cursor: Option<String>,
}

impl<'a> Pages<'a> {
    pub(crate) fn new(client: &'a Client, args: &'a Args) -> Self {
        Self {
            client,
            state: args.state,
            record_type: args.record_type.as_deref(),
            all: args.all,
            left: args.limit,
            cursor: Some(String::new()),
        }
    }

    /// The next page as it came, `None` after the last one or at the limit.
    pub(crate) async fn next<P: Page>(&mut self) -> Result<Option<P>, ClientError> {
        let Some(cursor) = self.cursor.as_deref().filter(|_| self.left > 0) else {
            return Ok(None);
        };
        let limit = self.left.min(PAGE).to_string();
        let mut pairs = vec![("limit", limit.as_str())];
        pairs.extend(self.state.map(|state| ("state", state.name())));
        pairs.extend(self.record_type.map(|name| ("type", name)));
        pairs.extend(self.all.then_some(("all", "true")));
        if !cursor.is_empty() {
            pairs.push(("after", cursor));
        }
        let answer = self.client.get(&with_query("/v1/records", &pairs)).await?;
        let page: P = decode_json(&answer)?;
        let (records, next) = page.extent();
        self.left = self.left.saturating_sub(records);
        // A page may be empty and not the last; one that leads nowhere would be asked for again and again.
        self.cursor = next.filter(|next| *next != cursor).map(str::to_owned);
        Ok(Some(page))
    }
}

/// A page, with its records parsed or left as they came.
pub(crate) trait Page: serde::de::DeserializeOwned {
    /// How many records, and where the next page begins.
    fn extent(&self) -> (u64, Option<&str>);
}

impl Page for RecordPage {
    fn extent(&self) -> (u64, Option<&str>) {
        (self.records.len() as u64, self.next.as_deref())
    }
}

#[derive(Deserialize)]
struct RawPage {
    records: Vec<Box<RawValue>>,
    next: Option<String>,
}

impl Page for RawPage {
    fn extent(&self) -> (u64, Option<&str>) {
        (self.records.len() as u64, self.next.as_deref())
    }
}

pub(crate) async fn run(args: &Args, context: &mut Context<'_>) -> Result<u8, Failure> {
    list(args, context, "No such records.").await
}

pub(crate) async fn list(args: &Args, context: &mut Context<'_>, nothing: &str) -> Result<u8, Failure> {
    let client = context.client.clone();
    let mut pages = Pages::new(&client, args);
    if context.json {
        return list_json(&mut pages, context).await;
    }
    let mut shown = 0;
    while let Some(page) = pages.next::<RecordPage>().await? {
        if !page.records.is_empty() {
            show(context, &page.records, shown == 0, wall_ms())?;
        }
        shown += page.records.len();
    }
    if shown == 0 {
        context.line(nothing)?;
    } else if pages.cursor.is_some() {
        context.note(&format!("The first {shown} are shown; for more: --limit N"));
    }
    Ok(exit::DONE)
}

async fn list_json(pages: &mut Pages<'_>, context: &mut Context<'_>) -> Result<u8, Failure> {
    let mut separator = "{\"records\":[";
    while let Some(page) = pages.next::<RawPage>().await? {
        for record in page.records {
            write!(context.out, "{separator}{}", json_text::compact(record.get()))?;
            separator = ",";
        }
    }
    if separator != "," {
        write!(context.out, "{separator}")?;
    }
    let next = serde_json::Value::from(pages.cursor.take());
    context.line(format!("],\"next\":{next}}}"))?;
    Ok(exit::DONE)
}

fn show(context: &mut Context<'_>, records: &[ManifestEntry], header: bool, now: u64) -> Result<(), Failure> {
    let mut table = Table::new(&COLUMNS).with_prose(MOST_PROSE);
    if !header {
        table = table.without_header();
    }
    for record in records {
        table.row([
            Cell::from(record.id),
            state(record.state),
            plain(&record.record_type).into(),
            plain(record.key.as_deref().unwrap_or("")).into(),
            record.attempts.into(),
            size(record.payload_bytes).into(),
            age(record.created_at, now).into(),
            keeping(record).into(),
            record.last_error.as_ref().map(error_text).unwrap_or_default().into(),
        ]);
    }
    table.print(context)
}

/// Who holds it back, or how many it holds back.
fn keeping(record: &ManifestEntry) -> String {
    match record.held_by {
        Some(holder) => format!("held by {holder}"),
        None if record.holds > 0 => format!("holds back {}", held(record.holds)),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{entry, run};
    use super::*;
    use crate::client::scripted::{Scripted, Step, answer_step};

    fn page(records: &[ManifestEntry], next: Option<&str>) -> Step {
        let page = RecordPage { records: records.to_vec(), next: next.map(str::to_owned) };
        answer_step(200, &serde_json::to_string(&page).unwrap())
    }

    fn args(limit: u64) -> Args {
        Args { state: Some(RecordState::Failed), record_type: Some("Visits".to_owned()), limit, all: false }
    }

    #[tokio::test]
    async fn pages_are_followed_up_to_the_limit() {
        let records = [1, 2, 3].map(|seq| entry(seq, RecordState::Failed));
        let daemon = Scripted::new(vec![page(&records[..2], Some("c2")), page(&records[2..], Some("c3"))]);
        let (code, text) = run(&daemon, true, async |context| super::run(&args(3), context).await).await;
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
    async fn pages_without_a_record_are_passed_over_and_a_cursor_that_stays_ends_the_list() {
        let records = [entry(1, RecordState::Failed)];
        let daemon = Scripted::new(vec![
            page(&[], Some("c1")),
            page(&[], Some("c2")),
            page(&records, Some("c3")),
            page(&[], Some("c3")),
        ]);
        let args = Args { all: true, ..args(3) };
        let (_, text) = run(&daemon, true, async |context| super::run(&args, context).await).await;
        let listed: RecordPage = serde_json::from_str(&text).unwrap();
        assert_eq!((listed.records.as_slice(), listed.next), (records.as_slice(), None));
        let last = "GET /v1/records?limit=2&state=FAILED&type=Visits&all=true&after=c3 HTTP/1.1";
        assert_eq!(daemon.into_calls()[3].head.lines().next(), Some(last));
    }

    #[tokio::test]
    async fn an_empty_list_is_an_answer_too() {
        let daemon = Scripted::new(vec![page(&[], None), page(&[], None)]);
        let (_, text) = run(&daemon, true, async |context| super::run(&args(3), context).await).await;
        assert_eq!(text, "{\"records\":[],\"next\":null}\n");
        let (_, text) = run(&daemon, false, async |context| super::run(&args(3), context).await).await;
        assert_eq!(text, "No such records.\n");
    }

    #[tokio::test]
    async fn a_record_is_a_row_with_its_error() {
        let records = [entry(1, RecordState::Failed)];
        let daemon = Scripted::new(vec![page(&records, None)]);
        let (_, text) = run(&daemon, false, async |context| super::run(&args(3), context).await).await;
        let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row[..7], [&records[0].id.to_string(), "FAILED", "Visits", "Acme", "1", "2.0", "KiB"]);
        assert!(text.ends_with("rejected (HTTP 422) BAD_DATE: no such day\n"), "{text}");
    }
}
