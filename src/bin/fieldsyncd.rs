//! `fieldsyncd`: the daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use fieldsync::daemon::{self, Options};

/// Keeps records of apps durably and syncs them to the server when connectivity allows.
#[derive(Parser)]
#[command(name = "fieldsyncd", version)]
struct Cli {
    /// Configuration file [default: /etc/fieldsync/config.toml, when it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Print the effective configuration and exit
    #[arg(long)]
    check_config: bool,
}

fn main() -> ExitCode {
    let Cli { config, check_config } = Cli::parse();
    ExitCode::from(daemon::run(&Options { config, check_only: check_config }))
}
