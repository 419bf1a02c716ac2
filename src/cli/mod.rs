//! The command line `fieldsync`: a client of the local API like any other.
//!
//! One file a verb; this one knows them all and nothing of what they do. A verb gets a `Context`
//! and returns its exit code or a `Failure`, and only [`main`] prints failures and ends the program.
//! Standard output carries the answer, as text for people or with `--json` as JSON on one line;
//! standard error carries everything that is said about it, with `--json` as one JSON object a line.

mod batches;
mod completions;
mod context;
mod demo;
mod doctor;
mod edit;
mod enqueue;
mod events;
mod export;
mod failure;
mod follow;
mod json_text;
mod list;
mod manifest;
mod manuals;
mod meter;
mod quarantine;
mod show;
mod status;
mod store;
mod sync;
mod table;
mod telemetry;
#[cfg(test)]
mod testing;
mod words;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use console::Term;
use signal_hook::consts::SIGINT;
use signal_hook::low_level::emulate_default_handler;

use crate::client::Client;
use crate::config::default_socket;
use context::{Context, say, say_json};
use failure::{Failure, INTERRUPTED};
use json_text::EscapingWriter;

const EXAMPLES: &str = "\
Examples:
  fieldsync status --watch             the sentence and a live bar
  fieldsync enqueue visits.ndjson      hand records over
  fieldsync sync --wait                send now; ends when nothing is left
  fieldsync quarantine list            what needs review, and why
  fieldsync demo                       see it work, without an installation";

const REVIEW: &str = "\
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

With --json, standard output has one JSON document a line: the answer of the
local API, or an event. Standard error has JSON lines, too:
  {\"error\": {\"code\", \"message\"}}  when the exit code is not 0; with \"file\" and
                                   \"line\" for a record that was refused
  {\"note\": text}                   for what is said meanwhile
Codes are the daemon's, or: usage, no_daemon, no_such_record, not_permitted,
needs_review, queue_full, input_refused, not_quarantined, changed_meanwhile,
editor_failed, connection_lost, not_the_local_api, output_failed, interrupted,
failed.

Environment:
  FIELDSYNC_SOCKET  socket of the daemon, unless --socket names one
  NO_COLOR          no colours, when it is not empty
  VISUAL, EDITOR    what `quarantine edit` opens
  TMPDIR            where `enqueue` keeps what a pipe brings; else /var/tmp";

/// Keeps records on this device and hands them to the server: asks and commands its daemon.
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
    /// Show what the daemon does and what waits
    Status(status::Args),
    /// Hand over records from files or standard input
    Enqueue(enqueue::Args),
    /// List records
    List(list::Args),
    /// Show what is known of one record
    Show(show::Args),
    /// Review records that the server did not take
    #[command(subcommand, after_help = REVIEW)]
    Quarantine(quarantine::Verb),
    /// Try to send now
    Sync(sync::Args),
    /// Send nothing until `resume`; records are still accepted
    Pause,
    /// Send again
    Resume,
    /// Show how syncing went: durations, sizes, types, networks
    Telemetry,
    /// Show recent batches
    Batches(batches::Args),
    /// Follow what happens, one line an event
    Events,
    /// The manifest as a whole
    #[command(subcommand)]
    Manifest(manifest::Verb),
    /// What to do about a damaged store
    #[command(subcommand)]
    Store(store::Verb),
    /// Watch gateway, daemon and 150 records in a temporary directory; needs no installation
    Demo(demo::Args),
    /// Find out what is wrong, and what to do about it
    Doctor(doctor::Args),
    /// Print completions for a shell
    Completions(completions::Args),
    /// Write the manual pages of all programs into a directory
    #[command(hide = true)]
    Manuals(manuals::Args),
}

impl Verb {
    async fn run(self, context: &mut Context<'_>) -> Result<u8, Failure> {
        match self {
            Self::Status(args) => status::run(&args, context).await,
            Self::Enqueue(args) => enqueue::run(&args, context).await,
            Self::List(args) => list::run(&args, context).await,
            Self::Show(args) => show::run(&args, context).await,
            Self::Quarantine(verb) => quarantine::run(&verb, context).await,
            Self::Sync(args) => sync::run(&args, context).await,
            Self::Pause => sync::pause(context).await,
            Self::Resume => sync::resume(context).await,
            Self::Telemetry => telemetry::run(context).await,
            Self::Batches(args) => batches::run(&args, context).await,
            Self::Events => events::run(context).await,
            Self::Manifest(verb) => manifest::run(&verb, context).await,
            Self::Store(verb) => store::run(&verb, context).await,
            Self::Demo(args) => demo::run(&args, context).await,
            Self::Doctor(args) => doctor::run(&args, context).await,
            Self::Completions(args) => completions::run::<CommandLine>(&args, context),
            Self::Manuals(args) => manuals::run::<CommandLine>(&args, context),
        }
    }
}

/// Does what the arguments of the process say.
pub fn main() -> ExitCode {
    let command = match CommandLine::try_parse() {
        Ok(command) => command,
        Err(error) if error.use_stderr() && wants_json() => {
            let message = error.to_string();
            let failure = Failure::new(crate::exit::USAGE, message.trim_start_matches("error: ").trim_end());
            return end(&failure, true);
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
    let mut context = Context {
        client: Client::new(command.socket.clone().unwrap_or_else(default_socket)),
        named_socket: command.socket,
        json: command.json,
        terminal,
        width: Some(Term::stdout()).filter(|_| terminal).and_then(|term| columns(&term)),
        colour: terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        out,
    };
    let outcome = block_on(command.verb.run(&mut context));
    let outcome = outcome.and_then(|code| {
        context.out.flush()?;
        Ok(code)
    });
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => end(&failure, command.json),
    }
}

/// A terminal that does not say how wide it is has no columns.
fn columns(term: &Term) -> Option<usize> {
    term.size_checked().map(|(_, columns)| usize::from(columns)).filter(|columns| *columns > 0)
}

/// Whether errors in the arguments are to be JSON, which only the arguments can tell.
fn wants_json() -> bool {
    std::env::args_os().skip(1).take_while(|argument| argument != "--").any(|argument| argument == "--json")
}

fn end(failure: &Failure, json: bool) -> ExitCode {
    if !failure.message.is_empty() {
        if json {
            say_json(&failure.json());
        } else {
            say(&format!("fieldsync: {}", failure.message));
        }
    }
    if failure.exit == INTERRUPTED {
        // So that a script is interrupted as well.
        emulate_default_handler(SIGINT).ok();
    }
    ExitCode::from(failure.exit)
}

fn block_on(verb: impl Future<Output = Result<u8, Failure>>) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("the system gives no event queue: {error}.")))?;
    let outcome = runtime.block_on(verb);
    // A name look-up that was given up cannot be cut short: nobody waits for it.
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
    fn global_options_stand_before_and_after_the_verb() {
        for line in ["fieldsync --json --socket /s status", "fieldsync status --socket /s --json"] {
            let command = CommandLine::try_parse_from(line.split(' ')).unwrap();
            assert!(command.json);
            assert_eq!(command.socket, Some(PathBuf::from("/s")));
        }
    }

    #[test]
    fn contradictions_are_wrong_usage() {
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
