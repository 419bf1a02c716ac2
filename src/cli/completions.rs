//! `fieldsync completions`: written by clap from the very command line it parses.

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::context::Context;
use super::failure::Failure;
use crate::exit;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  source <(fieldsync completions bash)
  fieldsync completions zsh > ~/.zfunc/_fieldsync
  fieldsync completions fish > ~/.config/fish/completions/fieldsync.fish")]
pub(crate) struct Args {
    /// Shell to complete for
    shell: Shell,
}

pub(crate) fn run<C: CommandFactory>(args: &Args, context: &mut Context<'_>) -> Result<u8, Failure> {
    // Into memory first: the generator panics where writing fails, and pipes get closed.
    let mut script = Vec::new();
    generate(args.shell, &mut C::command(), "fieldsync", &mut script);
    context.out.write_all(&script)?;
    Ok(exit::DONE)
}
