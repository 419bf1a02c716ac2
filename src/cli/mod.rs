//! The command line `fieldsync`: a client of the local API like any other.
//!
//! Each command has a file. It gets a `CommandContext` and returns an exit code or a `CommandFailure`; only [`main`] prints
//! failures and ends the program. Standard output has the result, as text or with `--json` as JSON on one line. Standard
//! error has all other messages, with `--json` as one JSON object on each line.

mod batches;
mod completions;
mod config;
mod context;
mod demo;
mod doctor;
mod edit;
mod enqueue;
mod events;
mod export;
mod failure;
mod follow;
mod format;
mod health;
mod json_text;
mod list;
mod manifest;
mod manuals;
mod meter;
mod payload_draft;
mod quarantine;
mod receipt;
mod record_ids;
mod setup;
mod show;
mod status;
mod store;
mod sync;
mod table;
mod telemetry;
#[cfg(test)]
mod testing;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use console::Term;
use signal_hook::consts::SIGINT;
use signal_hook::low_level::emulate_default_handler;

use crate::client::Client;
use crate::config::default_socket;
use context::{CommandContext, print_stderr, print_stderr_json};
use failure::{CommandFailure, INTERRUPTED};
use json_text::EscapingWriter;

const EXAMPLES: &str = "\
Examples:
  fieldsync status --watch             follow the status, with a progress bar
  fieldsync enqueue visits.ndjson      enqueue records
  fieldsync sync --wait                send now, and wait until nothing is left
  fieldsync quarantine list            list the records that need review
  fieldsync demo                       try it without an installation";

const REVIEW_EXAMPLES: &str = "\
Examples:
  fieldsync quarantine list
  fieldsync quarantine add 0191b3a0-0000-7000-8000-000000000000
  fieldsync quarantine edit 0191b3a0-0000-7000-8000-000000000000
  fieldsync quarantine retry --all
  fieldsync quarantine export review.ndjson";

const REFERENCE: &str = "\
Exit codes:
  0  done
  1  failed
  2  wrong usage
  3  no daemon at the socket
  4  no such record
  5  not permitted
  6  records need review
  7  the queue or the disk is full
  8  the input was refused, and nothing was stored

With --json, standard output has one JSON document on each line: the response of
the local API, or an event. Standard error has JSON lines, too:
  {\"error\": {\"code\", \"message\"}}   if the exit code is not 0; with \"file\" and
                                   \"line\" for a record that was refused
  {\"note\": text}                   for all other messages
Codes are the daemon's, or: usage, no_daemon, no_such_record, not_permitted,
needs_review, queue_full, input_refused, not_quarantined, changed_meanwhile,
editor_failed, connection_lost, not_the_local_api, output_failed, interrupted,
failed.

Environment:
  FIELDSYNC_SOCKET  socket of the daemon, unless --socket names one
  NO_COLOR          no colours, if it is not empty
  VISUAL, EDITOR    the editor of `quarantine edit`
  TMPDIR            directory for the input of a pipe; else /var/tmp";

/// Controls the fieldsync daemon, which keeps records on this device and sends them to the server.
#[derive(Debug, Parser)]
#[command(name = "fieldsync", version, after_help = EXAMPLES)]
#[command(after_long_help = format!("{EXAMPLES}\n\n{REFERENCE}"))]
struct CommandLine {
    /// Socket of the daemon [default: /run/fieldsync/fieldsync.sock]
    #[arg(long, global = true, env = "FIELDSYNC_SOCKET", value_name = "PATH", hide_env_values = true)]
    socket: Option<PathBuf>,
    /// Print JSON instead of text, errors included
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show what the daemon does and how many records wait
    Status(status::StatusArgs),
    /// Enqueue records from files or standard input
    Enqueue(enqueue::EnqueueArgs),
    /// List records
    List(list::ListArgs),
    /// Show one record: its state, the reason and its history
    Show(show::Args),
    /// Review records that the server did not accept
    #[command(subcommand, after_help = REVIEW_EXAMPLES)]
    Quarantine(quarantine::QuarantineVerb),
    /// Send now
    Sync(sync::SyncArgs),
    /// Stop sending until `resume`; records are still accepted
    Pause(sync::PauseArgs),
    /// Resume sending
    Resume,
    /// Show measurements: durations, batch sizes, record types, networks
    Telemetry,
    /// Show recent batches
    Batches(batches::BatchesArgs),
    /// Follow events, one on each line
    Events,
    /// Export the manifest: all records without payloads
    #[command(subcommand)]
    Manifest(manifest::ManifestVerb),
    /// Handle a damaged store
    #[command(subcommand)]
    Store(store::StoreVerb),
    /// Connect this device to a server: write the configuration and the token, apply them, check the result
    Setup(setup::SetupArgs),
    /// Show the configuration in effect, and where each value comes from
    Config(config::ConfigArgs),
    /// Run gateway, daemon and 150 records in a temporary directory; needs no installation
    Demo(demo::DemoArgs),
    /// Find problems of this device, and what to do about them
    Doctor(doctor::DoctorArgs),
    /// Print the completions for a shell
    Completions(completions::CompletionsArgs),
    /// Write the manual pages of all programs into a directory
    #[command(hide = true)]
    Manuals(manuals::ManualsArgs),
}

impl Verb {
    async fn run(self, context: &mut CommandContext<'_>) -> Result<u8, CommandFailure> {
        match self {
            Self::Status(args) => status::run(&args, context).await,
            Self::Enqueue(args) => enqueue::run(&args, context).await,
            Self::List(args) => list::run(&args, context).await,
            Self::Show(args) => show::run(&args, context).await,
            Self::Quarantine(verb) => quarantine::run(&verb, context).await,
            Self::Sync(args) => sync::run(&args, context).await,
            Self::Pause(args) => sync::pause_syncing(&args, context).await,
            Self::Resume => sync::resume_syncing(context).await,
            Self::Telemetry => telemetry::run(context).await,
            Self::Batches(args) => batches::run(&args, context).await,
            Self::Events => events::run(context).await,
            Self::Manifest(verb) => manifest::run(&verb, context).await,
            Self::Store(verb) => store::run(&verb, context).await,
            Self::Setup(args) => setup::run(&args, context).await,
            Self::Config(args) => config::run(&args, context).await,
            Self::Demo(args) => demo::run(&args, context).await,
            Self::Doctor(args) => doctor::run(&args, context).await,
            Self::Completions(args) => completions::run::<CommandLine>(&args, context),
            Self::Manuals(args) => manuals::run::<CommandLine>(&args, context),
        }
    }
}

/// Runs the command that the arguments of the process name.
pub fn main() -> ExitCode {
    let command = match CommandLine::try_parse() {
        Ok(command) => command,
        Err(error) if error.use_stderr() && wants_json() => {
            let message = error.to_string();
            let failure =
                CommandFailure::new(crate::exit::USAGE, message.trim_start_matches("error: ").trim_end());
            return print_failure(&failure, true);
        }
        Err(error) => error.exit(),
    };
    let mut stdout = io::stdout().lock();
    let terminal = stdout.is_terminal();
    let mut escaping;
    let out: &mut dyn Write = if command.json {
        escaping = EscapingWriter::new(stdout);
        &mut escaping
    } else {
        &mut stdout
    };
    let mut context = CommandContext {
        client: Client::new(command.socket.clone().unwrap_or_else(default_socket)),
        named_socket: command.socket,
        json: command.json,
        is_terminal: terminal,
        width: Some(Term::stdout()).filter(|_| terminal).and_then(|term| terminal_width(&term)),
        has_colour: terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        out,
    };
    let outcome = block_on(command.verb.run(&mut context));
    let outcome = outcome.and_then(|code| {
        context.out.flush()?;
        Ok(code)
    });
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => print_failure(&failure, command.json),
    }
}

/// `None` if the terminal does not report its width.
fn terminal_width(term: &Term) -> Option<usize> {
    term.size_checked().map(|(_, columns)| usize::from(columns)).filter(|columns| *columns > 0)
}

/// Whether errors in the arguments must be JSON. The arguments could not be parsed then.
fn wants_json() -> bool {
    std::env::args_os().skip(1).take_while(|argument| argument != "--").any(|argument| argument == "--json")
}

fn print_failure(failure: &CommandFailure, json: bool) -> ExitCode {
    if !failure.message.is_empty() {
        if json {
            print_stderr_json(&failure.to_json());
        } else {
            print_stderr(&format!("fieldsync: {}", failure.message));
        }
    }
    if failure.exit == INTERRUPTED {
        // So that a calling script is interrupted, too.
        emulate_default_handler(SIGINT).ok();
    }
    ExitCode::from(failure.exit)
}

fn block_on(verb: impl Future<Output = Result<u8, CommandFailure>>) -> Result<u8, CommandFailure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandFailure::failed(format!("the system provides no event queue: {error}.")))?;
    let outcome = runtime.block_on(verb);
    // A host name look-up that timed out cannot be cancelled. Do not wait for it.
    runtime.shutdown_background();
    outcome
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn global_options_are_accepted_before_and_after_the_verb() {
        for line in ["fieldsync --json --socket /s status", "fieldsync status --socket /s --json"] {
            let command = CommandLine::try_parse_from(line.split(' ')).unwrap();
            assert!(command.json);
            assert_eq!(command.socket, Some(PathBuf::from("/s")));
        }
    }

    #[test]
    fn contradictory_arguments_are_wrong_usage() {
        for line in [
            "fieldsync",
            "fieldsync enqueue --key-field account",
            "fieldsync list --state sleeping",
            "fieldsync show 12",
            "fieldsync quarantine retry",
            "fieldsync quarantine discard --all 0191b3a0-0000-7000-8000-000000000000",
        ] {
            let error = CommandLine::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), i32::from(crate::exit::USAGE), "{line}");
        }
    }
}
