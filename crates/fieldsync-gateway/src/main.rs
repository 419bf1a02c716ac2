//! `fieldsync-gateway`: the server side of the sync protocol.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use fieldsync_gateway::{GatewayOptions, run_gateway, write_manual};

/// Prints the manual page; packages are built with it.
const MANUAL: &str = "--manual";

fn main() -> ExitCode {
    if std::env::args_os().skip(1).eq([MANUAL]) {
        return write_manual(&mut io::stdout()).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    ExitCode::from(run_gateway(&GatewayOptions::parse()))
}
