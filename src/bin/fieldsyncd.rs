//! `fieldsyncd`: the daemon.

use std::process::ExitCode;

use clap::Parser;
use fieldsync::daemon::{self, DaemonOptions};

fn main() -> ExitCode {
    ExitCode::from(daemon::run(&DaemonOptions::parse()))
}
