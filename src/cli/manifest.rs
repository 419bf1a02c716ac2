//! `fieldsync manifest export`: streams everything that the daemon knows about its records.

use std::path::PathBuf;

use clap::Subcommand;

use super::context::CommandContext;
use super::export::ExportTarget;
use super::failure::CommandFailure;
use crate::exit;

#[derive(Debug, Subcommand)]
pub(crate) enum ManifestVerb {
    /// Write the manifest as NDJSON, one record on each line
    Export(ManifestArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ManifestArgs {
    /// File to write, which must not be a symbolic link [default: standard output]
    file: Option<PathBuf>,
    /// Also export records of other users, without their keys and error messages; admins always get all
    #[arg(long)]
    all: bool,
}

pub(crate) async fn run(verb: &ManifestVerb, context: &mut CommandContext<'_>) -> Result<u8, CommandFailure> {
    let ManifestVerb::Export(args) = verb;
    let mut body =
        context.client.get_stream(if args.all { "/v1/manifest?all=true" } else { "/v1/manifest" }).await?;
    let mut target = ExportTarget::open(args.file.as_deref(), context.out)?;
    while let Some(piece) = body.next_piece().await? {
        target.write_bytes(&piece)?;
    }
    let written = target.finish()?;
    written.report(context)?;
    Ok(exit::DONE)
}

#[cfg(test)]
mod tests {
    use super::super::testing::run_verb;
    use super::*;
    use crate::client::scripted::{ScriptedDaemon, stream_step};

    #[tokio::test]
    async fn the_manifest_is_copied_unchanged_and_a_truncated_one_fails() {
        let pieces = ["{\"id\":1}\n{\"i", "d\":2}\n"];
        let daemon = ScriptedDaemon::new(vec![stream_step(&pieces, true), stream_step(&pieces, false)]);
        let verb = ManifestVerb::Export(ManifestArgs { file: None, all: false });
        let (code, text) = run_verb(&daemon, false, async |context| super::run(&verb, context).await).await;
        assert_eq!((code, text.as_str()), (Ok(0), "{\"id\":1}\n{\"id\":2}\n"));
        let (code, _) = run_verb(&daemon, false, async |context| super::run(&verb, context).await).await;
        assert_eq!(code.unwrap_err().exit, exit::FAILED);
    }
}
