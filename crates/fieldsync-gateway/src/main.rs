//! `fieldsync-gateway`: the server side of the sync protocol.

use std::io;
use std::process::ExitCode;

use fieldsync_gateway::{
    GatewayCommand, parse_command_line, run_conformance_command, run_devices_command, run_gateway,
    run_refused_command, write_manual,
};

/// Prints the manual page; packages are built with it.
const MANUAL: &str = "--manual";

fn main() -> ExitCode {
    if std::env::args_os().skip(1).eq([MANUAL]) {
        return write_manual(&mut io::stdout()).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    ExitCode::from(match parse_command_line() {
        GatewayCommand::Serve(options) => run_gateway(&options),
        GatewayCommand::ListDevices(command) => run_devices_command(&command),
        GatewayCommand::Review(command) => run_refused_command(&command),
        GatewayCommand::Conformance(command) => run_conformance_command(&command),
    })
}
