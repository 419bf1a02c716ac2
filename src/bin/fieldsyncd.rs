//! `fieldsyncd`: the daemon.

use std::process::ExitCode;

use clap::Parser;
use fieldsync::daemon::{self, Options};

fn main() -> ExitCode {
    ExitCode::from(daemon::run(&Options::parse()))
}
