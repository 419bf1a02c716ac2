//! `fieldsync-gateway`: the server side of the sync protocol.

use std::process::ExitCode;

use clap::Parser;
use fieldsync::gateway::{self, Options};

fn main() -> ExitCode {
    ExitCode::from(gateway::run(&Options::parse()))
}
