//! The command line as a whole: the options of the gateway, and its commands.

use clap::{CommandFactory, FromArgMatches};

use super::devices_command::DevicesCommand;
use super::options::GatewayOptions;
use super::refused_command::RefusedCommand;

const DEVICES: &str = "devices";
const REFUSED: &str = "refused";

/// All options and commands.
pub(crate) fn build_command_line() -> clap::Command {
    GatewayOptions::command()
        .subcommand(DevicesCommand::command())
        .subcommand(RefusedCommand::command())
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
}

/// Reads the command line of the process; a mistake ends it.
pub fn parse_command_line() -> GatewayCommand {
    let matches = build_command_line().get_matches();
    let command = match matches.subcommand() {
        Some((DEVICES, matches)) => {
            DevicesCommand::from_arg_matches(matches).map(GatewayCommand::ListDevices)
        }
        Some((REFUSED, matches)) => RefusedCommand::from_arg_matches(matches).map(GatewayCommand::Review),
        _ => {
            GatewayOptions::from_arg_matches(&matches).map(|options| GatewayCommand::Serve(Box::new(options)))
        }
    };
    command.unwrap_or_else(|error| error.exit())
}
