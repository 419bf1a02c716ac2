//! The command line as a whole: the options of the gateway, and its commands.

use clap::{CommandFactory, FromArgMatches};

use super::conformance::{CONFORMANCE_USAGE, ConformanceCommand};
use super::devices_command::DevicesCommand;
use super::options::GatewayOptions;
use super::refused_command::RefusedCommand;

const DEVICES: &str = "devices";
const REFUSED: &str = "refused";
const CONFORMANCE: &str = "conformance";

/// All options and commands.
pub(crate) fn build_command_line() -> clap::Command {
    GatewayOptions::command()
        .subcommand(DevicesCommand::command())
        .subcommand(RefusedCommand::command())
        .subcommand(ConformanceCommand::command())
        .subcommand_negates_reqs(true)
        .args_conflicts_with_subcommands(true)
        .disable_help_subcommand(true)
}

/// What the program is to do.
pub enum GatewayCommand {
    /// Serve devices.
    Serve(Box<GatewayOptions>),
    /// List devices.
    ListDevices(DevicesCommand),
    /// Review refused records.
    Review(RefusedCommand),
    /// Hold a server against the protocol.
    Conformance(ConformanceCommand),
}

/// Reads the command line of the process; a mistake ends it.
pub fn parse_command_line() -> GatewayCommand {
    let matches = build_command_line().try_get_matches().unwrap_or_else(|error| exit_with(&error));
    let command = match matches.subcommand() {
        Some((DEVICES, matches)) => {
            DevicesCommand::from_arg_matches(matches).map(GatewayCommand::ListDevices)
        }
        Some((REFUSED, matches)) => RefusedCommand::from_arg_matches(matches).map(GatewayCommand::Review),
        Some((CONFORMANCE, matches)) => {
            ConformanceCommand::from_arg_matches(matches).map(GatewayCommand::Conformance)
        }
        _ => {
            GatewayOptions::from_arg_matches(&matches).map(|options| GatewayCommand::Serve(Box::new(options)))
        }
    };
    command.unwrap_or_else(|error| error.exit())
}

/// `conformance` has an exit code of its own for a mistake: 1 means that a point failed.
fn exit_with(error: &clap::Error) -> ! {
    if error.use_stderr() && std::env::args_os().nth(1).is_some_and(|argument| argument == CONFORMANCE) {
        // Without standard error, the error cannot be reported.
        drop(error.print());
        std::process::exit(CONFORMANCE_USAGE.into());
    }
    error.exit()
}
