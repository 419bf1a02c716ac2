//! `fieldsync-gateway refused`: the review of refused records from the command line.

mod output;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use tokio::runtime::Builder;

use crate::admin::shapes::{ChangedRecords, RefusedSelection};
use crate::admin_client::{AdminClientError, GatewayArgs};
use crate::exit;
use crate::failure::report_failure;
use crate::model::RecordId;

/// Review records that the receiver of forwarded records refused
#[derive(Debug, Parser)]
#[command(
    name = "refused",
    after_help = "\
A refused record needs review, and later records of its device and key wait
behind it. After a retry, an edit or a discard they follow in order.

Exit status: 0 done, 1 failed, 2 wrong usage, 3 no gateway at the URL, 4 no such
record to review, 5 the token is not accepted, 8 the payload is refused.

Example:
  fieldsync-gateway refused list --url http://127.0.0.1:8080 \\
      --admin-token-file /etc/fieldsync-gateway/admin-token"
)]
pub struct RefusedCommand {
    #[command(subcommand)]
    verb: RefusedVerb,
}

#[derive(Debug, Subcommand)]
enum RefusedVerb {
    /// List the records under review
    List(ListArgs),
    /// Show one record with its payload
    Show(ShowArgs),
    /// Send records again unchanged
    Retry(RetryArgs),
    /// Replace the payload of a record, and send it again
    Edit(EditArgs),
    /// Discard records permanently: they are not forwarded
    Discard(DiscardArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    gateway: GatewayArgs,
    /// Maximum number of records to list
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Only records after this id: the last one of an earlier list
    #[arg(long, value_name = "ID")]
    after: Option<RecordId>,
    /// Print JSON, as GET /admin/refused
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    #[command(flatten)]
    gateway: GatewayArgs,
    /// Id of the record
    id: RecordId,
    /// Print JSON, as GET /admin/refused/ID
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct RetryArgs {
    #[command(flatten)]
    gateway: GatewayArgs,
    #[command(flatten)]
    chosen: ChosenRecords,
}

#[derive(Debug, clap::Args)]
struct DiscardArgs {
    #[command(flatten)]
    gateway: GatewayArgs,
    #[command(flatten)]
    chosen: ChosenRecords,
    /// Required with --all
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, clap::Args)]
struct EditArgs {
    #[command(flatten)]
    gateway: GatewayArgs,
    /// Id of the record
    id: RecordId,
    /// File with the new payload [default: standard input]
    #[arg(long, value_name = "FILE")]
    payload: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct ChosenRecords {
    /// Ids of the records
    #[arg(value_name = "ID")]
    ids: Vec<RecordId>,
    /// All records under review
    #[arg(long)]
    all: bool,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Client(#[from] AdminClientError),
    #[error("cannot read {0}: nothing was changed")]
    Input(String, #[source] io::Error),
    #[error(
        "with --all, every record that needs review would be dropped: nothing was discarded. Repeat it with --yes"
    )]
    Unconfirmed,
    #[error(
        "{changed} of {chosen} records needed review; the others are unknown, forwarded or discarded already"
    )]
    NotUnderReview { changed: u64, chosen: u64 },
    #[error("cannot write to standard output")]
    Output(#[from] io::Error),
    #[error("cannot start")]
    Start(#[source] io::Error),
}

impl CommandError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Client(error) => error.exit_code(),
            Self::Unconfirmed => exit::USAGE,
            Self::NotUnderReview { .. } => exit::NO_SUCH_RECORD,
            // The reader of standard output closed it.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => exit::DONE,
            Self::Input(..) | Self::Output(_) | Self::Start(_) => exit::FAILED,
        }
    }
}

/// Runs the command, and returns the exit code for the process.
pub fn run_refused_command(command: &RefusedCommand) -> u8 {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(CommandError::Start);
    match runtime.and_then(|runtime| runtime.block_on(run_verb(&command.verb))) {
        Ok(()) => exit::DONE,
        Err(error) => report_failure(&error, error.exit_code()),
    }
}

async fn run_verb(verb: &RefusedVerb) -> Result<(), CommandError> {
    match verb {
        RefusedVerb::List(args) => list_records(args).await,
        RefusedVerb::Show(args) => {
            let client = args.gateway.open_client()?;
            output::print_record(&client.show_record(args.id).await?, args.json)
        }
        RefusedVerb::Retry(args) => review(&args.gateway, &args.chosen, "retry", "sent again").await,
        RefusedVerb::Discard(args) if args.chosen.all && !args.yes => Err(CommandError::Unconfirmed),
        RefusedVerb::Discard(args) => review(&args.gateway, &args.chosen, "discard", "discarded").await,
        RefusedVerb::Edit(args) => {
            let client = args.gateway.open_client()?;
            client.replace_payload(args.id, read_payload(args)?).await?;
            output::print_changed(1, "sent again")
        }
    }
}

async fn list_records(args: &ListArgs) -> Result<(), CommandError> {
    let client = args.gateway.open_client()?;
    let mut left = args.limit;
    let mut after = args.after;
    let mut records = Vec::new();
    loop {
        let page = client.list_records(after, left).await?;
        left = left.saturating_sub(u64::try_from(page.records.len()).unwrap_or(u64::MAX));
        records.extend(page.records);
        after = page.next;
        if left == 0 || after.is_none() {
            return output::print_list(records, after, args.json);
        }
    }
}

async fn review(
    gateway: &GatewayArgs,
    chosen: &ChosenRecords,
    decision: &str,
    participle: &str,
) -> Result<(), CommandError> {
    let client = gateway.open_client()?;
    let ids = (!chosen.all).then(|| chosen.ids.clone());
    let ChangedRecords { changed } =
        client.review_records(decision, &RefusedSelection { ids, all: chosen.all }).await?;
    output::print_changed(changed, participle)?;
    let chosen_ids: BTreeSet<String> = chosen.ids.iter().map(ToString::to_string).collect();
    let chosen = u64::try_from(chosen_ids.len()).unwrap_or(u64::MAX);
    if changed < chosen { Err(CommandError::NotUnderReview { changed, chosen }) } else { Ok(()) }
}

fn read_payload(args: &EditArgs) -> Result<Vec<u8>, CommandError> {
    if let Some(path) = &args.payload {
        return fs::read(path).map_err(|source| CommandError::Input(path.display().to_string(), source));
    }
    let mut payload = Vec::new();
    io::stdin()
        .read_to_end(&mut payload)
        .map_err(|source| CommandError::Input("standard input".into(), source))?;
    Ok(payload)
}
