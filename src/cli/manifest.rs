//! `fieldsync manifest export`: all that the daemon knows of its records, streamed.

use std::path::PathBuf;

use clap::Subcommand;

use super::context::Context;
use super::export::Target;
use super::failure::Failure;
use crate::exit;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Write it as NDJSON, one record a line
    Export(Args),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File to write, which must not be a symbolic link; else standard output
    file: Option<PathBuf>,
    /// The records of other users, too, without what only they and admins see; admins get all anyway
    #[arg(long)]
    all: bool,
}

pub(crate) async fn run(verb: &Verb, context: &mut Context<'_>) -> Result<u8, Failure> {
    let Verb::Export(args) = verb;
    let mut body =
        context.client.stream(if args.all { "/v1/manifest?all=true" } else { "/v1/manifest" }).await?;
    let mut target = Target::open(args.file.as_deref(), context.out)?;
    while let Some(piece) = body.next_piece().await? {
        target.bytes(&piece)?;
    }
    let written = target.finish()?;
    written.report(context)?;
    Ok(exit::DONE)
}

#[cfg(test)]
mod tests {
    use super::super::testing::run;
    use super::*;
    use crate::client::scripted::{Scripted, stream_step};

    #[tokio::test]
    async fn the_manifest_comes_through_as_it_is_and_a_cut_one_fails() {
        let pieces = ["{\"id\":1}\n{\"i", "d\":2}\n"];
        let daemon = Scripted::new(vec![stream_step(&pieces, true), stream_step(&pieces, false)]);
        let verb = Verb::Export(Args { file: None, all: false });
        let (code, text) = run(&daemon, false, async |context| super::run(&verb, context).await).await;
        assert_eq!((code, text.as_str()), (Ok(0), "{\"id\":1}\n{\"id\":2}\n"));
        let (code, _) = run(&daemon, false, async |context| super::run(&verb, context).await).await;
        assert_eq!(code.unwrap_err().exit, exit::FAILED);
    }
}
