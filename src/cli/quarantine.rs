//! `fieldsync quarantine`: the review of records that the server does not take.

use std::collections::HashSet;
use std::path::PathBuf;

use clap::Subcommand;

use super::context::Context;
use super::export::Target;
use super::failure::Failure;
use super::list::{self, Pages};
use super::words::count;
use super::{edit, json_text, show};
use crate::exit;
use crate::ipc::api::{Changed, RecordPage, Selection};
use crate::ipc::client::{ClientError, decode};
use crate::model::{RecordId, RecordState};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the records under review
    List(ListArgs),
    /// Show what is known of one record
    Show(show::Args),
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
    /// File to write; else standard output
    file: Option<PathBuf>,
}

pub(crate) async fn run(verb: &Verb, context: &mut Context<'_>) -> Result<u8, Failure> {
    match verb {
        Verb::List(args) => {
            let args = under_review(args.record_type.clone(), args.limit);
            list::list(&args, context, "No record needs review.").await
        }
        Verb::Show(args) => show::run(args, context).await,
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
    list::Args { state: Some(RecordState::Quarantined), record_type, limit }
}

fn selection(chosen: &Chosen, confirm: bool) -> Selection {
    Selection { ids: (!chosen.all).then(|| chosen.ids.clone()), all: chosen.all, confirm }
}

async fn change(
    context: &mut Context<'_>,
    path: &str,
    selection: &Selection,
    done: &str,
) -> Result<u8, Failure> {
    let answer = context.post_json(path, selection).await?;
    let Changed { changed } = decode(&answer)?;
    let asked = selection.ids.iter().flatten().collect::<HashSet<_>>().len() as u64;
    if changed < asked {
        let left = count(asked - changed, "record");
        context.note(&format!("{left} of those named: not under review, and left as before."));
    }
    context.present(&answer, |context, Changed { changed }| {
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
    use crate::ipc::client::scripted::{Scripted, answer};

    fn all(all: bool) -> Chosen {
        Chosen { ids: Vec::new(), all }
    }

    #[tokio::test]
    async fn ids_and_all_are_asked_for_as_the_api_wants_them() {
        let daemon = Scripted::new(vec![answer(200, "{\"changed\":1}"), answer(200, "{\"changed\":2}")]);
        let id = RecordId::new();
        let one = Verb::Retry(Chosen { ids: vec![id], all: false });
        let (code, text) = run(&daemon, false, async |context| super::run(&one, context).await).await;
        assert_eq!((code, text.as_str()), (Ok(0), "1 record sent again.\n"));
        let every = Verb::Discard(DiscardArgs { chosen: all(true), yes: true });
        let (code, text) = run(&daemon, true, async |context| super::run(&every, context).await).await;
        assert_eq!((code, text.as_str()), (Ok(0), "{\"changed\":2}\n"));
        let bodies: Vec<Selection> =
            daemon.calls().iter().map(|call| serde_json::from_slice(&call.body).unwrap()).collect();
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
            answer(200, &page),
            answer(200, "{\"state\": \"QUARANTINED\", \"payload\": {\"n\": 1.0}}"),
            answer(404, ""),
            answer(200, &page),
            answer(500, ""),
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
