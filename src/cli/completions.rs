//! `fieldsync completions`: the script of a shell that asks this program for completions, so that ids are completed, too.

use std::env;

use clap::CommandFactory;
use clap_complete::env::Shells;
use clap_complete::{CompleteEnv, Shell};

use super::context::CommandContext;
use super::failure::CommandFailure;
use crate::exit;

const PROGRAM: &str = "fieldsync";
/// The variable by which the script asks.
const REQUEST_VARIABLE: &str = "FIELDSYNC_COMPLETE";

/// As a file in `fpath`, the script is the function that zsh calls for the first completion: it must complete, too.
const ZSH_FIRST_CALL: &str =
    "if [ \"$funcstack[1]\" = \"_fieldsync\" ]; then _clap_dynamic_completer_fieldsync; fi\n";

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Completes commands, options and values, and the ids of records and batches that
the daemon knows.

Examples:
  source <(fieldsync completions bash)
  fieldsync completions zsh > ~/.zfunc/_fieldsync
  fieldsync completions fish > ~/.config/fish/completions/fieldsync.fish")]
pub(crate) struct CompletionsArgs {
    /// Shell to complete for
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs, context: &mut CommandContext<'_>) -> Result<u8, CommandFailure> {
    let shell = args.shell.to_string();
    let shells = Shells::builtins();
    let shell = shells
        .completer(&shell)
        .ok_or_else(|| CommandFailure::new(exit::USAGE, format!("there are no completions for {shell}.")))?;
    // Generated in memory: a closed pipe must not be an error of the generator.
    let mut script = Vec::new();
    shell.write_registration(REQUEST_VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script)?;
    if args.shell == Shell::Zsh {
        script.extend_from_slice(ZSH_FIRST_CALL.as_bytes());
    }
    context.out.write_all(&script)?;
    Ok(exit::DONE)
}

/// Responds to the script of a shell, and ends the process then.
pub(super) fn respond_to_shell<C: CommandFactory>() {
    if env::var_os(REQUEST_VARIABLE).is_some() {
        CompleteEnv::with_factory(C::command).var(REQUEST_VARIABLE).complete();
    }
}
