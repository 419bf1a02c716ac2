//! `fieldsync-gateway`: the server side of the sync protocol.

use std::process::ExitCode;

use clap::Parser;
use fieldsync::gateway::{self, Options};

/// Takes batches of records from field devices, and applies each record once.
#[derive(Parser)]
#[command(name = "fieldsync-gateway", version)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    ExitCode::from(gateway::run(&Cli::parse().options))
}
