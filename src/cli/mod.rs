//! The command line `fieldsync`: a client of the local API like any other.
//!
//! Each command has a file. It gets a `CommandContext` and returns an exit code or a `CommandFailure`; only [`main`] prints
//! failures and ends the program. Standard output has the result, as text or with `--json` as JSON on one line. Standard
//! error has all other messages, with `--json` as one JSON object on each line.

mod batch_detail;
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
mod help_texts;
mod id_completion;
mod json_text;
mod list;
mod logs;
mod manifest;
mod manuals;
mod meter;
mod pager;
mod payload_draft;
mod quarantine;
mod receipt;
mod record_ids;
mod setup;
mod show;
mod state_words;
mod status;
mod store;
mod sync;
mod sync_wait_end;
mod table;
mod telemetry;
#[cfg(test)]
mod testing;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anstream::{AutoStream, ColorChoice};
use clap::error::ErrorKind;
use clap::{Parser, Subcommand, ValueEnum};
use console::Term;
use signal_hook::consts::SIGINT;
use signal_hook::low_level::emulate_default_handler;

use crate::client::Client;
use crate::config::default_socket;
use context::{CommandContext, print_stderr, print_stderr_json};
use failure::{CommandFailure, INTERRUPTED};
use follow::Interrupt;
use help_texts::{EXAMPLES, REFERENCE, REVIEW_EXAMPLES};
use json_text::EscapingWriter;
use pager::Pager;

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
    /// Format of the output
    #[arg(short = 'o', global = true, value_name = "FORMAT", conflicts_with = "json")]
    format: Option<OutputFormat>,
    #[command(flatten)]
    color: colorchoice_clap::Color,
    /// Do not show long output in a pager
    #[arg(long, global = true)]
    no_pager: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    /// As --json
    Json,
    /// Tables and sentences for people, the default
    #[value(alias = "text")]
    Table,
}

impl CommandLine {
    fn is_json(&self) -> bool {
        self.json || self.format == Some(OutputFormat::Json)
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show what the daemon does and how many records wait
    Status(status::StatusArgs),
    /// Enqueue records from files or standard input
    Enqueue(enqueue::EnqueueArgs),
    /// List records
    #[command(visible_alias = "ls")]
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
    Telemetry(telemetry::TelemetryArgs),
    /// Show recent batches, or one of them with its records
    Batches(batches::BatchesArgs),
    /// Follow events, one on each line
    Events(events::EventsArgs),
    /// Show the messages of the daemon in the journal of the system
    Logs(logs::LogsArgs),
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
    /// Whether the output may be longer than a screen, and is complete at once.
    fn is_paged(&self) -> bool {
        match self {
            Self::Status(args) => args.is_paged(),
            Self::Quarantine(verb) => verb.is_paged(),
            Self::Telemetry(args) => args.is_paged(),
            Self::Doctor(args) => args.is_paged(),
            Self::List(_) | Self::Show(_) | Self::Batches(_) | Self::Config(_) => true,
            _ => false,
        }
    }

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
            Self::Telemetry(args) => telemetry::run(&args, context).await,
            Self::Batches(batches::BatchesArgs { id: Some(id), no_trunc, .. }) => {
                batch_detail::run(&id, no_trunc, context).await
            }
            Self::Batches(args) => batches::run(&args, context).await,
            Self::Events(args) => events::run(&args, context).await,
            Self::Logs(args) => logs::run(&args, context),
            Self::Manifest(verb) => manifest::run(&verb, context).await,
            Self::Store(verb) => store::run(&verb, context).await,
            Self::Setup(args) => setup::run(&args, context).await,
            Self::Config(args) => config::run(&args, context).await,
            Self::Demo(args) => demo::run(&args, context).await,
            Self::Doctor(args) => doctor::run(&args, context).await,
            Self::Completions(args) => completions::run(&args, context),
            Self::Manuals(args) => manuals::run::<CommandLine>(&args, context),
        }
    }
}

/// Runs the command that the arguments of the process name.
pub fn main() -> ExitCode {
    completions::respond_to_shell::<CommandLine>();
    let command = match parse_arguments() {
        Ok(command) => command,
        Err(code) => return code,
    };
    command.color.write_global();
    let json = command.is_json();
    let stdout = io::stdout();
    let is_terminal = stdout.is_terminal();
    let has_colour = AutoStream::choice(&stdout) != ColorChoice::Never;
    console::set_colors_enabled(has_colour);
    let width = Some(Term::stdout()).filter(|_| is_terminal).and_then(|term| terminal_width(&term));
    let is_paged = is_terminal && !json && !command.no_pager && command.verb.is_paged();
    let pager = if is_paged { Pager::start() } else { None };
    let mut stdout = stdout.lock();
    let mut escaping;
    let out: &mut dyn Write = if json {
        escaping = EscapingWriter::new(stdout);
        &mut escaping
    } else {
        &mut stdout
    };
    let mut context = CommandContext {
        client: Client::new(command.socket.clone().unwrap_or_else(default_socket)),
        named_socket: command.socket,
        json,
        is_terminal,
        width,
        has_colour,
        has_pager: !command.no_pager,
        out,
    };
    let outcome = block_on(run_verb(command.verb, pager.is_some(), &mut context));
    let flushed = context.out.flush();
    let outcome = outcome.and_then(|code| {
        flushed?;
        Ok(code)
    });
    let code = outcome.unwrap_or_else(|failure| report_failure(&failure, json));
    if let Some(pager) = pager {
        pager.finish();
    }
    if code == INTERRUPTED {
        // So that a calling script is interrupted, too.
        emulate_default_handler(SIGINT).ok();
    }
    ExitCode::from(code)
}

/// The command, or the exit code after its help or a mistake was printed.
fn parse_arguments() -> Result<CommandLine, ExitCode> {
    let error = match CommandLine::try_parse() {
        Ok(command) => return Ok(command),
        Err(error) => error,
    };
    if error.use_stderr() && wants_json() {
        let message = error.to_string();
        let failure =
            CommandFailure::new(crate::exit::USAGE, message.trim_start_matches("error: ").trim_end());
        return Err(ExitCode::from(report_failure(&failure, true)));
    }
    let is_bare = matches!(
        error.kind(),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand
    );
    if is_bare {
        // A command without its subcommand asks for help, which is no mistake.
        let with_help = std::env::args_os().chain(["-h".into()]);
        if let Err(help) = CommandLine::try_parse_from(with_help) {
            help.exit();
        }
    }
    error.exit()
}

async fn run_verb(
    verb: Verb,
    is_paged: bool,
    context: &mut CommandContext<'_>,
) -> Result<u8, CommandFailure> {
    if !is_paged {
        return verb.run(context).await;
    }
    // Ctrl-C must not leave a pager behind that reads the keyboard together with the shell.
    let mut interrupt = Interrupt::new()?;
    tokio::select! {
        outcome = verb.run(context) => outcome,
        () = interrupt.wait() => Err(CommandFailure::interrupted("")),
    }
}

/// `None` if the terminal does not report its width.
fn terminal_width(term: &Term) -> Option<usize> {
    term.size_checked().map(|(_, columns)| usize::from(columns)).filter(|columns| *columns > 0)
}

/// Whether errors in the arguments must be JSON. The arguments could not be parsed then.
fn wants_json() -> bool {
    let arguments: Vec<_> = std::env::args_os().skip(1).take_while(|argument| argument != "--").collect();
    let is_alone =
        arguments.iter().any(|argument| ["--json", "-ojson", "-o=json"].iter().any(|one| argument == one));
    is_alone || arguments.windows(2).any(|pair| pair[0] == "-o" && pair[1] == "json")
}

/// Prints it, unless there is nothing to say, and returns its exit code.
fn report_failure(failure: &CommandFailure, json: bool) -> u8 {
    if !failure.message.is_empty() {
        if json {
            print_stderr_json(&failure.to_json());
        } else {
            print_stderr(&format!("fieldsync: {}", failure.message));
        }
    }
    failure.exit
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
        for line in ["fieldsync --json --socket /s status", "fieldsync status --socket /s -o json"] {
            let command = CommandLine::try_parse_from(line.split(' ')).unwrap();
            assert!(command.is_json());
            assert_eq!(command.socket, Some(PathBuf::from("/s")));
        }
    }

    #[test]
    fn contradictory_arguments_are_wrong_usage() {
        for line in [
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
