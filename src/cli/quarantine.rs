//! `fieldsync quarantine`: the review of records that the server does not take.

use std::collections::HashSet;
use std::path::PathBuf;

use clap::Subcommand;

use super::context::Context;
use super::export::Target;
use super::failure::{Failure, sentence};
use super::list::{self, Pages};
use super::words::count;
use super::{edit, json_text, show};
use crate::api::{Changed, RecordPage, RefusedRecord, Selection};
use crate::client::{ClientError, decode_json};
use crate::exit;
use crate::model::{RecordId, RecordState};

/// Records that were not put under review and are named with the reason.
const REFUSALS_NAMED: usize = 10;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the records under review
    List(ListArgs),
    /// Show what is known of one record
    Show(show::Args),
    /// Put records that wait under review, to edit or discard them
    Add(AddArgs),
    /// Send records again as they are
    Retry(Chosen),
    /// Give records up for good
    Discard(DiscardArgs),
    /// Mend a record's payload in $VISUAL or $EDITOR, and send it again
    Edit(edit::Args),
    /// Write the records under review with their payloads as NDJSON
    Export(ExportArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Only this type
    #[arg(long = "type", value_name = "T")]
    record_type: Option<String>,
    /// Most records to list
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
For a record that cannot get through because a firewall or a proxy refuses what
is in it. For admins. A record that is being sent, or whose outcome is not known
yet, is refused: try again when the outcome is known.

Examples:
  fieldsync quarantine add 0191b3a0-0000-7000-8000-000000000000
  fieldsync quarantine edit 0191b3a0-0000-7000-8000-000000000000")]
pub(crate) struct AddArgs {
    /// Ids of the records
    #[arg(value_name = "ID", required = true)]
    ids: Vec<RecordId>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Chosen {
    /// Ids of the records
    #[arg(value_name = "ID")]
    ids: Vec<RecordId>,
    /// All that are under review
    #[arg(long)]
    all: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DiscardArgs {
    #[command(flatten)]
    chosen: Chosen,
    /// Needed with --all: the payloads are gone for good
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// File to write, which must not be a symbolic link; else standard output
    file: Option<PathBuf>,
}

pub(crate) async fn run(verb: &Verb, context: &mut Context<'_>) -> Result<u8, Failure> {
    match verb {
        Verb::List(args) => {
            let args = under_review(args.record_type.clone(), args.limit);
            list::list(&args, context, "No record needs review.").await
        }
        Verb::Show(args) => show::run(args, context).await,
        Verb::Add(args) => add(args, context).await,
        Verb::Retry(chosen) => {
            let selection = selection(chosen, false);
            change(context, "/v1/quarantine/retry", &selection, "sent again").await
        }
        Verb::Discard(args) => {
            if args.chosen.all && !args.yes {
                return Err(Failure::new(
                    exit::USAGE,
                    "nothing was discarded: with --all every payload under review would be gone for good. Keep a copy \
                     with `fieldsync quarantine export FILE`, then add --yes.",
                ));
            }
            let selection = selection(&args.chosen, args.chosen.all);
            change(context, "/v1/quarantine/discard", &selection, "discarded").await
        }
        Verb::Edit(args) => edit::run(args, context).await,
        Verb::Export(args) => export(args, context).await,
    }
}

fn under_review(record_type: Option<String>, limit: u64) -> list::Args {
    list::Args { state: Some(RecordState::Quarantined), record_type, limit, all: false }
}

fn selection(chosen: &Chosen, confirm: bool) -> Selection {
    Selection { ids: (!chosen.all).then(|| chosen.ids.clone()), all: chosen.all, confirm }
}

async fn add(args: &AddArgs, context: &mut Context<'_>) -> Result<u8, Failure> {
    let selection = Selection { ids: Some(args.ids.clone()), ..Selection::default() };
    let answer = context.post_json("/v1/quarantine/add", &selection).await?;
    let Changed { changed, refused } = decode_json(&answer)?;
    for RefusedRecord { id, message, .. } in refused.iter().take(REFUSALS_NAMED) {
        context.note(&format!("Record {id} was left as it is: {}", sentence(message)));
    }
    let unnamed = refused.len().saturating_sub(REFUSALS_NAMED) as u64;
    if unnamed > 0 {
        context.note(&format!("{} more could not be put under review.", count(unnamed, "record")));
    }
    let distinct = |ids: &mut dyn Iterator<Item = RecordId>| ids.collect::<HashSet<_>>().len() as u64;
    let asked = distinct(&mut args.ids.iter().copied());
    let known = asked.saturating_sub(distinct(&mut refused.iter().map(|record| record.id)) + changed);
    if known > 0 {
        context.note(&format!("{} of those named: under review already.", count(known, "record")));
    }
    let id = args.ids.first().filter(|_| asked == 1).map_or_else(|| "ID".to_owned(), ToString::to_string);
    context.present(&answer, |context, Changed { changed, .. }| {
        let (are, them) = if changed == 1 { ("is", "it") } else { ("are", "them") };
        let next = format!("fieldsync quarantine edit {id}, or fieldsync quarantine discard {id}");
        context.line(match changed {
            0 => format!("No record was put under review. To edit or discard one that is: {next}"),
            _ => format!(
                "{} {are} under review now. To edit or discard {them}: {next}",
                count(changed, "record")
            ),
        })
    })?;
    Ok(exit::DONE)
}

async fn change(
    context: &mut Context<'_>,
    path: &str,
    selection: &Selection,
    done: &str,
) -> Result<u8, Failure> {
    let answer = context.post_json(path, selection).await?;
    let Changed { changed, .. } = decode_json(&answer)?;
    let asked = selection.ids.iter().flatten().collect::<HashSet<_>>().len() as u64;
    if changed < asked {
        let left = count(asked - changed, "record");
        context.note(&format!("{left} of those named: not under review, and left as before."));
    }
    context.present(&answer, |context, Changed { changed, .. }| {
        context.line(format!("{} {done}.", count(changed, "record")))
    })?;
    Ok(exit::DONE)
}

async fn export(args: &ExportArgs, context: &mut Context<'_>) -> Result<u8, Failure> {
    let client = context.client.clone();
    let filter = under_review(None, u64::MAX);
    let mut pages = Pages::new(&client, &filter);
    let notes = context.notes();
    let mut target = Target::open(args.file.as_deref(), context.out)?;
    let mut gone = 0;
    while let Some(page) = pages.next::<RecordPage>().await? {
        for entry in page.records {
            match show::fetch(&client, entry.id, &["payload"]).await {
                Ok(detail) => {
                    target.line(&json_text::compact(&String::from_utf8_lossy(&detail)))?;
                }
                // Somebody settled it since the page was read.
                Err(ClientError::Refused { status: 404, .. }) => gone += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }
    if gone > 0 {
        notes.say(&format!("{} left the quarantine meanwhile.", count(gone, "record")));
    }
    let written = target.finish()?;
    written.report(context)?;
    Ok(exit::DONE)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{entry, run};
    use super::*;
    use crate::client::scripted::{Scripted, answer_step};

    fn all(all: bool) -> Chosen {
        Chosen { ids: Vec::new(), all }
    }

    #[tokio::test]
    async fn ids_and_all_are_asked_for_as_the_api_wants_them() {
        let daemon =
            Scripted::new(vec![answer_step(200, "{\"changed\":1}"), answer_step(200, "{\"changed\":2}")]);
        let id = RecordId::new();
        let one = Verb::Retry(Chosen { ids: vec![id], all: false });
        let (code, text) = run(&daemon, false, async |context| super::run(&one, context).await).await;
        assert_eq!((code, text.as_str()), (Ok(0), "1 record sent again.\n"));
        let every = Verb::Discard(DiscardArgs { chosen: all(true), yes: true });
        let (code, text) = run(&daemon, true, async |context| super::run(&every, context).await).await;
        assert_eq!((code, text.as_str()), (Ok(0), "{\"changed\":2}\n"));
        let bodies: Vec<Selection> =
            daemon.into_calls().iter().map(|call| serde_json::from_slice(&call.body).unwrap()).collect();
        assert_eq!(bodies[0].ids, Some(vec![id]));
        assert!(bodies[1].ids.is_none() && bodies[1].all && bodies[1].confirm);
    }

    #[tokio::test]
    async fn discarding_all_needs_a_yes() {
        let daemon = Scripted::new(Vec::new());
        let every = Verb::Discard(DiscardArgs { chosen: all(true), yes: false });
        let (code, _) = run(&daemon, false, async |context| super::run(&every, context).await).await;
        assert_eq!(code.unwrap_err().exit, exit::USAGE);
    }

    #[tokio::test]
    async fn an_export_has_the_payloads_and_is_whole_or_not_there() {
        let records = [1, 2].map(|seq| entry(seq, RecordState::Quarantined));
        let page = RecordPage { records: records.to_vec(), next: None };
        let page = serde_json::to_string(&page).unwrap();
        let daemon = Scripted::new(vec![
            answer_step(200, &page),
            answer_step(200, "{\"state\": \"QUARANTINED\", \"payload\": {\"n\": 1.0}}"),
            answer_step(404, ""),
            answer_step(200, &page),
            answer_step(500, ""),
        ]);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("review.ndjson");
        let verb = Verb::Export(ExportArgs { file: Some(file.clone()) });
        let (code, text) = run(&daemon, false, async |context| super::run(&verb, context).await).await;
        assert_eq!(code, Ok(0));
        assert_eq!(text, format!("1 record written to {}\n", file.display()));
        let written = std::fs::read_to_string(&file).unwrap();
        assert_eq!(written, "{\"state\":\"QUARANTINED\",\"payload\":{\"n\":1.0}}\n");
        std::fs::remove_file(&file).unwrap();
        let (code, _) = run(&daemon, false, async |context| super::run(&verb, context).await).await;
        assert_eq!(code.unwrap_err().exit, exit::FAILED);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
