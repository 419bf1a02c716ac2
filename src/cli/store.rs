//! `fieldsync store`: what a person does about a damaged store.

use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;
use serde_json::value::RawValue;

use super::context::Context;
use super::failure::Failure;
use super::json_text::EscapingWriter;
use super::words::{count, plain, stamp};
use crate::api::{AcknowledgeAlert, Acknowledged};
use crate::clock::wall_ms;
use crate::exit;
use crate::model::RecordId;
use crate::store::{Salvage, is_panic_expected};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Take note of damage that the daemon found and met: its alert goes
    Acknowledge,
    /// Read every record that reads out of a damaged file, as NDJSON for `enqueue`; the file is not changed
    Salvage(SalvageArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct SalvageArgs {
    /// The damaged file, for example queue.redb.damaged-20260301T081530Z in the state directory
    file: PathBuf,
    /// File to write, which must not be there; else standard output
    #[arg(long, value_name = "OUT")]
    output: Option<PathBuf>,
}

pub(crate) async fn run(verb: &Verb, context: &mut Context<'_>) -> Result<u8, Failure> {
    match verb {
        Verb::Acknowledge => acknowledge(context).await,
        Verb::Salvage(args) => salvage(args, context),
    }
}

async fn acknowledge(context: &mut Context<'_>) -> Result<u8, Failure> {
    let alert = AcknowledgeAlert { alert: "store_damaged".to_owned() };
    let answer = context.post_json("/v1/alerts/acknowledge", &alert).await?;
    context.present(&answer, |context, Acknowledged { acknowledged }| {
        if acknowledged.is_empty() {
            return context.line("No damage waits to be acknowledged.");
        }
        let now = wall_ms();
        acknowledged.iter().try_for_each(|damage| {
            context.line(format!(
                "Acknowledged: damage found {}: {}. {} salvaged, {} known to be lost. The damaged file stays: {}",
                stamp(damage.found_at, now),
                plain(&damage.reason),
                count(damage.salvaged, "record"),
                damage.lost,
                plain(&damage.kept_as)
            ))
        })
    })?;
    Ok(exit::DONE)
}

/// A record as `enqueue` takes it.
#[derive(Serialize)]
struct Line<'a> {
    id: RecordId,
    #[serde(rename = "type")]
    record_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    priority: u8,
    payload: &'a RawValue,
}

fn salvage(args: &SalvageArgs, context: &mut Context<'_>) -> Result<u8, Failure> {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // The library that reads the tables panics over damaged ones, which is expected here.
        if !is_panic_expected() {
            report(panic);
        }
    }));
    let output = args.output.as_deref();
    let scratch = output.map_or_else(std::env::temp_dir, |output| match output.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    });
    let mut file = output.map(|path| create(path).map(|file| (file, path))).transpose()?;
    let salvaged = Salvage::read_file(&args.file, &scratch)
        .map_err(|error| Failure::failed(format!("{error}. Nothing was changed.")))
        .and_then(|salvage| {
            match &mut file {
                Some((file, path)) => write(&salvage, file, |error| cannot_write(path, &error))?,
                None if context.terminal => {
                    write(&salvage, &mut EscapingWriter::new(&mut *context.out), Failure::from)?;
                }
                None => write(&salvage, context.out, Failure::from)?,
            }
            Ok(salvage)
        });
    let salvage = salvaged.inspect_err(|_| {
        if let Some(path) = output {
            // Half of the records in a file would look like all of them.
            fs::remove_file(path).ok();
        }
    })?;
    let salvaged = count(salvage.salvaged, "record");
    context.note(&format!("{salvaged} salvaged, {} known to be lost", salvage.lost));
    Ok(exit::DONE)
}

fn create(path: &Path) -> Result<BufWriter<fs::File>, Failure> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    Ok(BufWriter::new(created.map_err(|error| cannot_write(path, &error))?))
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot write {}: {error}. The damaged file is untouched.", path.display()))
}

fn write(
    salvage: &Salvage,
    out: &mut dyn Write,
    failed: impl Fn(io::Error) -> Failure,
) -> Result<(), Failure> {
    let read_back =
        |error| Failure::failed(format!("what was found cannot be read back: {error}. Nothing was changed."));
    for record in salvage.list_records().map_err(|error| read_back(error.to_string()))? {
        let record = record.map_err(|error| read_back(error.to_string()))?;
        // Between the parts of a payload a line may end; inside of its texts it cannot.
        let payload = record.payload.replace(['\n', '\r'], " ");
        let payload = RawValue::from_string(payload).map_err(|error| read_back(error.to_string()))?;
        let line = Line {
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
    use super::super::testing::run;
    use super::*;
    use crate::client::scripted::{Scripted, answer_step};

    #[tokio::test]
    async fn what_was_acknowledged_is_told() {
        let damage = "{\"acknowledged\":[{\"found_at\":\"2026-11-22T20:41:16.000Z\",\"kept_as\":\"/s/queue.redb.damaged-1\",\
                      \"reason\":\"it is too short\",\"salvaged\":412,\"lost\":3}]}";
        let daemon = Scripted::new(vec![answer_step(200, damage), answer_step(200, "{\"acknowledged\":[]}")]);
        let (code, text) =
            run(&daemon, false, async |context| super::run(&Verb::Acknowledge, context).await).await;
        assert_eq!(code, Ok(0));
        for part in ["it is too short", "412 records salvaged, 3 known to be lost", "/s/queue.redb.damaged-1"]
        {
            assert!(text.contains(part), "{text}");
        }
        let (_, text) =
            run(&daemon, false, async |context| super::run(&Verb::Acknowledge, context).await).await;
        assert_eq!(text, "No damage waits to be acknowledged.\n");
        assert_eq!(daemon.into_calls()[0].body, "{\"alert\":\"store_damaged\"}".as_bytes());
    }
}
