//! `fieldsync store`: handles a damaged store.

use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;
use serde_json::value::RawValue;

use super::context::CommandContext;
use super::failure::CommandFailure;
use super::format::{count, strip_controls, timestamp};
use super::json_text::EscapingWriter;
use crate::api::{AcknowledgeAlert, Acknowledged};
use crate::clock::wall_ms;
use crate::exit;
use crate::model::RecordId;
use crate::store::{Salvage, count_unsent, is_panic_expected};

#[derive(Debug, Subcommand)]
pub(crate) enum StoreVerb {
    /// Acknowledge damage that the daemon found and repaired: clears its alert
    Acknowledge,
    /// Count the records that are not synced, while no daemon runs
    Count(CountArgs),
    /// Extract all readable records of a damaged file as NDJSON for `enqueue`; the file is not changed
    Salvage(SalvageArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct CountArgs {
    /// Directory of the queue
    #[arg(default_value = "/var/lib/fieldsync")]
    state_dir: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SalvageArgs {
    /// The damaged file, for example queue.redb.damaged-20260301T081530Z in the state directory
    file: PathBuf,
    /// File to write, which must not exist [default: standard output]
    #[arg(long, value_name = "OUT")]
    output: Option<PathBuf>,
}

pub(crate) async fn run(verb: &StoreVerb, context: &mut CommandContext<'_>) -> Result<u8, CommandFailure> {
    match verb {
        StoreVerb::Acknowledge => acknowledge_damage(context).await,
        StoreVerb::Count(args) => count_records(args, context),
        StoreVerb::Salvage(args) => salvage_file(args, context),
    }
}

async fn acknowledge_damage(context: &mut CommandContext<'_>) -> Result<u8, CommandFailure> {
    let alert = AcknowledgeAlert { alert: "store_damaged".to_owned() };
    let response = context.post_json("/v1/alerts/acknowledge", &alert).await?;
    context.print_response(&response, |context, Acknowledged { acknowledged }| {
        if acknowledged.is_empty() {
            return context.print_line("No damage waits to be acknowledged.");
        }
        let now = wall_ms();
        acknowledged.iter().try_for_each(|damage| {
            context.print_line(format!(
                "Acknowledged: damage found {}: {}. {} salvaged, {} known to be lost. The damaged file is kept: {}",
                timestamp(damage.found_at, now),
                strip_controls(&damage.reason),
                count(damage.salvaged, "record"),
                damage.lost,
                strip_controls(&damage.kept_as)
            ))
        })
    })?;
    Ok(exit::DONE)
}

fn count_records(args: &CountArgs, context: &mut CommandContext<'_>) -> Result<u8, CommandFailure> {
    let unsent = count_unsent(&args.state_dir).map_err(|error| {
        CommandFailure::failed(format!(
            "the records in {} cannot be counted: {error}. While a daemon runs: fieldsync status",
            args.state_dir.display()
        ))
    })?;
    if context.json {
        context.print_line(serde_json::json!({ "unsent": unsent }).to_string())?;
    } else {
        context.print_line(unsent.to_string())?;
    }
    Ok(exit::DONE)
}

/// A record in the format of `enqueue`.
#[derive(Serialize)]
struct SalvagedRecordLine<'a> {
    id: RecordId,
    #[serde(rename = "type")]
    record_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    priority: u8,
    payload: &'a RawValue,
}

fn salvage_file(args: &SalvageArgs, context: &mut CommandContext<'_>) -> Result<u8, CommandFailure> {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // The library may panic when it reads damaged tables, which is expected here.
        if !is_panic_expected() {
            report(panic);
        }
    }));
    let output = args.output.as_deref();
    let scratch = output.map_or_else(std::env::temp_dir, |output| match output.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    });
    let mut file = output.map(|path| create_output(path).map(|file| (file, path))).transpose()?;
    let salvaged = Salvage::read_file(&args.file, &scratch)
        .map_err(|error| CommandFailure::failed(format!("{error}. Nothing was changed.")))
        .and_then(|salvage| {
            match &mut file {
                Some((file, path)) => write_records(&salvage, file, |error| write_failure(path, &error))?,
                None if context.is_terminal => {
                    write_records(
                        &salvage,
                        &mut EscapingWriter::new(&mut *context.out),
                        CommandFailure::from,
                    )?;
                }
                None => write_records(&salvage, context.out, CommandFailure::from)?,
            }
            Ok(salvage)
        });
    let salvage = salvaged.inspect_err(|_| {
        if let Some(path) = output {
            // A file with only some of the records would look complete.
            fs::remove_file(path).ok();
        }
    })?;
    let salvaged = count(salvage.salvaged, "record");
    context.print_note(&format!("{salvaged} salvaged, {} known to be lost", salvage.lost));
    Ok(exit::DONE)
}

fn create_output(path: &Path) -> Result<BufWriter<fs::File>, CommandFailure> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    Ok(BufWriter::new(created.map_err(|error| write_failure(path, &error))?))
}

fn write_failure(path: &Path, error: &io::Error) -> CommandFailure {
    CommandFailure::failed(format!(
        "cannot write {}: {error}. The damaged file is untouched.",
        path.display()
    ))
}

fn write_records(
    salvage: &Salvage,
    out: &mut dyn Write,
    failed: impl Fn(io::Error) -> CommandFailure,
) -> Result<(), CommandFailure> {
    let read_back = |error| {
        CommandFailure::failed(format!(
            "the salvaged records cannot be read back: {error}. Nothing was changed."
        ))
    };
    for record in salvage.list_records().map_err(|error| read_back(error.to_string()))? {
        let record = record.map_err(|error| read_back(error.to_string()))?;
        // Line ends may stand between the tokens of a payload, but not within its strings.
        let payload = record.payload.replace(['\n', '\r'], " ");
        let payload = RawValue::from_string(payload).map_err(|error| read_back(error.to_string()))?;
        let line = SalvagedRecordLine {
            id: record.id,
            record_type: &record.record_type,
            key: record.key.as_deref(),
            priority: record.priority,
            payload: &payload,
        };
        let line = serde_json::to_string(&line).map_err(|error| read_back(error.to_string()))?;
        writeln!(out, "{line}").map_err(&failed)?;
    }
    out.flush().map_err(&failed)
}

#[cfg(test)]
mod tests {
    use super::super::testing::run_verb;
    use super::*;
    use crate::client::scripted::{ScriptedDaemon, response_step};

    #[tokio::test]
    async fn acknowledged_damage_is_reported() {
        let damage = "{\"acknowledged\":[{\"found_at\":\"2026-11-22T20:41:16.000Z\",\"kept_as\":\"/s/queue.redb.damaged-1\",\
                      \"reason\":\"it is too short\",\"salvaged\":412,\"lost\":3}]}";
        let daemon = ScriptedDaemon::new(vec![
            response_step(200, damage),
            response_step(200, "{\"acknowledged\":[]}"),
        ]);
        let (code, text) =
            run_verb(&daemon, false, async |context| super::run(&StoreVerb::Acknowledge, context).await)
                .await;
        assert_eq!(code, Ok(0));
        for part in ["it is too short", "412 records salvaged, 3 known to be lost", "/s/queue.redb.damaged-1"]
        {
            assert!(text.contains(part), "{text}");
        }
        let (_, text) =
            run_verb(&daemon, false, async |context| super::run(&StoreVerb::Acknowledge, context).await)
                .await;
        assert_eq!(text, "No damage waits to be acknowledged.\n");
        assert_eq!(daemon.into_calls()[0].body, "{\"alert\":\"store_damaged\"}".as_bytes());
    }
}
