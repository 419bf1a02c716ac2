//! `fieldsync quarantine`: the review of records that the server does not accept.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use serde::Deserialize;

use super::context::CommandContext;
use super::export::ExportTarget;
use super::failure::{CommandFailure, as_sentence};
use super::format::count;
use super::list::{self, RecordPages};
use super::record_ids::IdPart;
use super::status::records_need_review;
use super::{edit, id_completion, json_text, show};
use crate::api::{Changed, RecordPage, RefusedRecord, Selection};
use crate::client::{ClientError, decode_json};
use crate::exit;
use crate::model::{RecordId, RecordState};

/// How many records that were changed are named.
const IDS_NAMED_MAX: usize = 10;
/// How many records that could not be kept for review are named with the reason.
const REFUSALS_NAMED_MAX: usize = 10;

#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineVerb {
    /// List the records that need review
    #[command(visible_alias = "ls")]
    List(QuarantineListArgs),
    /// Show one record: its state, the reason and its history
    Show(show::Args),
    /// Keep waiting records for review, to edit or discard them
    Add(AddArgs),
    /// Queue records again unchanged
    Retry(ChosenRecords),
    /// Discard records permanently
    Discard(DiscardArgs),
    /// Edit a record's payload in $VISUAL or $EDITOR, and send it again
    Edit(edit::EditArgs),
    /// Write the records that need review, with their payloads, as NDJSON
    Export(ExportArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct QuarantineListArgs {
    /// Only this type
    #[arg(long = "type", value_name = "T")]
    record_type: Option<String>,
    /// Only records with this key
    #[arg(long, value_name = "K")]
    key: Option<String>,
    /// Only records that were enqueued in this time, for example 2h
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    since: Option<Duration>,
    /// Maximum number of records to list
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Print only the ids
    #[arg(long, short)]
    quiet: bool,
    /// Print whole ids on a terminal
    #[arg(long)]
    no_trunc: bool,
}

impl QuarantineListArgs {
    fn to_list_args(&self) -> list::ListArgs {
        list::ListArgs {
            record_type: self.record_type.clone(),
            key: self.key.clone(),
            since: self.since,
            quiet: self.quiet,
            no_trunc: self.no_trunc,
            ..review_filter(self.limit)
        }
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
For a record that cannot be sent because a firewall or a proxy rejects its
content: it is not sent any more, and needs review. Only for admins. A record that is being sent, or whose outcome is not
known yet, is refused: try again when the outcome is known.

Examples:
  fieldsync quarantine add 0191b3a0-0000-7000-8000-000000000000
  fieldsync quarantine edit 0191b3a0-0000-7000-8000-000000000000")]
pub(crate) struct AddArgs {
    /// Ids of the records, or any unique beginning or end of each
    #[arg(value_name = "ID", required = true, add = id_completion::waiting_records())]
    ids: Vec<IdPart>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ChosenRecords {
    /// Ids of the records, or any unique beginning or end of each
    #[arg(value_name = "ID", add = id_completion::records_to_review())]
    ids: Vec<IdPart>,
    /// All records that need review
    #[arg(long)]
    all: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DiscardArgs {
    #[command(flatten)]
    chosen: ChosenRecords,
    /// Required with --all: the payloads cannot be restored
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// File to write, which must not be a symbolic link [default: standard output]
    file: Option<PathBuf>,
}

impl QuarantineVerb {
    /// Whether its output may be longer than a screen.
    pub(crate) fn is_paged(&self) -> bool {
        matches!(self, Self::List(_) | Self::Show(_))
    }
}

pub(crate) async fn run(
    verb: &QuarantineVerb,
    context: &mut CommandContext<'_>,
) -> Result<u8, CommandFailure> {
    match verb {
        QuarantineVerb::List(args) => {
            list::list_records(&args.to_list_args(), context, "No record needs review.").await
        }
        QuarantineVerb::Show(args) => show::run(args, context).await,
        QuarantineVerb::Add(args) => add_records(args, context).await,
        QuarantineVerb::Retry(chosen) => {
            let selection = to_selection(chosen, false, context).await?;
            change_records(context, "/v1/quarantine/retry", &selection, "queued again").await
        }
        QuarantineVerb::Discard(args) => {
            if args.chosen.all && !args.yes {
                return Err(CommandFailure::new(
                    exit::USAGE,
                    "nothing was discarded: with --all the payload of every record that needs review would be lost \
                     permanently. Keep a copy with `fieldsync quarantine export FILE`, then add --yes.",
                ));
            }
            let selection = to_selection(&args.chosen, args.chosen.all, context).await?;
            change_records(context, "/v1/quarantine/discard", &selection, "discarded").await
        }
        QuarantineVerb::Edit(args) => edit::run(args, context).await,
        QuarantineVerb::Export(args) => export_records(args, context).await,
    }
}

fn review_filter(limit: u64) -> list::ListArgs {
    let (state, limit) = (vec![RecordState::Quarantined], Some(limit));
    list::ListArgs { state, limit, ..list::ListArgs::default() }
}

async fn to_selection(
    chosen: &ChosenRecords,
    confirm: bool,
    context: &CommandContext<'_>,
) -> Result<Selection, CommandFailure> {
    let ids = IdPart::resolve_all(&chosen.ids, &context.client).await?;
    Ok(Selection { ids: (!chosen.all).then_some(ids), all: chosen.all, confirm })
}

async fn add_records(args: &AddArgs, context: &mut CommandContext<'_>) -> Result<u8, CommandFailure> {
    let ids = IdPart::resolve_all(&args.ids, &context.client).await?;
    let selection = Selection { ids: Some(ids.clone()), ..Selection::default() };
    let response = context.post_json("/v1/quarantine/add", &selection).await?;
    let Changed { changed, refused } = decode_json(&response)?;
    for RefusedRecord { id, message, .. } in refused.iter().take(REFUSALS_NAMED_MAX) {
        context.print_note(&format!("Record {id} was not changed: {}", as_sentence(message)));
    }
    let unnamed = refused.len().saturating_sub(REFUSALS_NAMED_MAX) as u64;
    if unnamed > 0 {
        context.print_note(&format!("{} more could not be kept for review.", count(unnamed, "record")));
    }
    let distinct = |ids: &mut dyn Iterator<Item = RecordId>| ids.collect::<HashSet<_>>().len() as u64;
    let asked = distinct(&mut ids.iter().copied());
    let known = asked.saturating_sub(distinct(&mut refused.iter().map(|record| record.id)) + changed);
    if known > 0 {
        context.print_note(&format!("{} already.", records_need_review(known)));
    }
    let id = ids.first().filter(|_| asked == 1).map_or_else(|| "ID".to_owned(), ToString::to_string);
    context.print_response(&response, |context, Changed { changed, .. }| {
        let them = if changed == 1 { "it" } else { "them" };
        let next = format!("fieldsync quarantine edit {id}, or fieldsync quarantine discard {id}");
        context.print_line(match changed {
            0 => format!("No record was changed. To edit or discard one that needs review: {next}"),
            _ => format!("{} now. To edit or discard {them}: {next}", records_need_review(changed)),
        })
    })?;
    Ok(exit::DONE)
}

/// `: ID, ID and 3 more`. An id may have been given by a part, and the record is gone from the lists now.
fn name_ids(ids: &[RecordId]) -> String {
    let mut names: Vec<String> = Vec::new();
    for id in ids.iter().map(ToString::to_string) {
        if !names.contains(&id) {
            names.push(id);
        }
    }
    let unnamed = names.len().saturating_sub(IDS_NAMED_MAX);
    names.truncate(IDS_NAMED_MAX);
    let more = if unnamed == 0 { String::new() } else { format!(" and {unnamed} more") };
    if names.is_empty() { String::new() } else { format!(": {}{more}", names.join(", ")) }
}

async fn change_records(
    context: &mut CommandContext<'_>,
    path: &str,
    selection: &Selection,
    done: &str,
) -> Result<u8, CommandFailure> {
    let response = context.post_json(path, selection).await?;
    let Changed { changed, .. } = decode_json(&response)?;
    let asked = selection.ids.iter().flatten().collect::<HashSet<_>>().len() as u64;
    if changed < asked {
        let left = asked - changed;
        let need = if left == 1 { "does" } else { "do" };
        context.print_note(&format!("{} {need} not need review, and did not change.", count(left, "record")));
    }
    let ids = selection.ids.as_deref().filter(|_| changed == asked).unwrap_or_default();
    context.print_response(&response, |context, Changed { changed, .. }| {
        context.print_line(format!("{} {done}{}.", count(changed, "record"), name_ids(ids)))
    })?;
    Ok(exit::DONE)
}

async fn export_records(args: &ExportArgs, context: &mut CommandContext<'_>) -> Result<u8, CommandFailure> {
    let client = context.client.clone();
    let filter = review_filter(u64::MAX);
    let mut pages = RecordPages::in_queue_order(&client, &filter);
    let notes = context.note_writer();
    let mut target = ExportTarget::open(args.file.as_deref(), context.out)?;
    let mut gone = 0;
    while let Some(page) = pages.next::<RecordPage>().await? {
        for entry in page.records {
            match show::fetch(&client, entry.id, &["payload"]).await {
                Ok(detail) if !is_under_review(&detail)? => gone += 1,
                Ok(detail) => {
                    target.write_line(&json_text::compact_json(&String::from_utf8_lossy(&detail)))?;
                }
                Err(ClientError::Refused { status: 404, .. }) => gone += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }
    if gone > 0 {
        notes.print_note(&format!("{} left the list during the export.", count(gone, "record")));
    }
    let written = target.finish()?;
    written.report(context)?;
    Ok(exit::DONE)
}

/// False if the record was settled or queued again after the page was read.
fn is_under_review(detail: &[u8]) -> Result<bool, CommandFailure> {
    #[derive(Deserialize)]
    struct Detail {
        state: RecordState,
    }
    let detail: Detail = decode_json(detail)?;
    Ok(detail.state == RecordState::Quarantined)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{rejected_entry, run_verb};
    use super::*;
    use crate::client::scripted::{ScriptedDaemon, response_step};

    fn chosen_all(all: bool) -> ChosenRecords {
        ChosenRecords { ids: Vec::new(), all }
    }

    #[tokio::test]
    async fn ids_and_all_are_sent_as_the_api_requires() {
        let daemon = ScriptedDaemon::new(vec![
            response_step(200, "{\"changed\":1}"),
            response_step(200, "{\"changed\":2}"),
        ]);
        let id = RecordId::new();
        let one = QuarantineVerb::Retry(ChosenRecords { ids: vec![id.into()], all: false });
        let (code, text) = run_verb(&daemon, false, async |context| super::run(&one, context).await).await;
        assert_eq!((code, text.as_str()), (Ok(0), format!("1 record queued again: {id}.\n").as_str()));
        let every = QuarantineVerb::Discard(DiscardArgs { chosen: chosen_all(true), yes: true });
        let (code, text) = run_verb(&daemon, true, async |context| super::run(&every, context).await).await;
        assert_eq!((code, text.as_str()), (Ok(0), "{\"changed\":2}\n"));
        let bodies: Vec<Selection> =
            daemon.into_calls().iter().map(|call| serde_json::from_slice(&call.body).unwrap()).collect();
        assert_eq!(bodies[0].ids, Some(vec![id]));
        assert!(bodies[1].ids.is_none() && bodies[1].all && bodies[1].confirm);
    }

    #[tokio::test]
    async fn discarding_all_requires_yes() {
        let daemon = ScriptedDaemon::new(Vec::new());
        let every = QuarantineVerb::Discard(DiscardArgs { chosen: chosen_all(true), yes: false });
        let (code, _) = run_verb(&daemon, false, async |context| super::run(&every, context).await).await;
        assert_eq!(code.unwrap_err().exit, exit::USAGE);
    }

    #[tokio::test]
    async fn an_export_contains_the_payloads_and_is_complete_or_absent() {
        let records = [1, 2].map(|seq| rejected_entry(seq, RecordState::Quarantined));
        let page = RecordPage { records: records.to_vec(), unknown: Vec::new(), next: None };
        let page = serde_json::to_string(&page).unwrap();
        let daemon = ScriptedDaemon::new(vec![
            response_step(200, &page),
            response_step(200, "{\"state\": \"QUARANTINED\", \"payload\": {\"n\": 1.0}}"),
            response_step(404, ""),
            response_step(200, &page),
            response_step(500, ""),
        ]);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("review.ndjson");
        let verb = QuarantineVerb::Export(ExportArgs { file: Some(file.clone()) });
        let (code, text) = run_verb(&daemon, false, async |context| super::run(&verb, context).await).await;
        assert_eq!(code, Ok(0));
        assert_eq!(text, format!("1 record written to {}\n", file.display()));
        let written = std::fs::read_to_string(&file).unwrap();
        assert_eq!(written, "{\"state\":\"QUARANTINED\",\"payload\":{\"n\":1.0}}\n");
        std::fs::remove_file(&file).unwrap();
        let (code, _) = run_verb(&daemon, false, async |context| super::run(&verb, context).await).await;
        assert_eq!(code.unwrap_err().exit, exit::FAILED);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
