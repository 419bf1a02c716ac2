//! The server side of the protocol: takes batches over HTTP and applies each record once.
//!
//! What it guarantees:
//! - **A batch is answered once.** The first answer for a (device, batch id) is durable before it
//!   is sent, is kept for `--keep-answers`, and is what every resend and every look-up gets.
//! - **A record is applied once**, in whichever batch it comes, and however many batches carry
//!   it at the same moment: the ledger's transaction decides.
//! - **All or nothing.** The records of a batch, its answer and its row are one transaction; a
//!   crash at any moment leaves all of it or none.
//! - **A batch that has begun goes on** when the client, or the proxy in between, hangs up.
//!
//! - **What is applied is handed on** at least once, in order, where `--forward` says so.
//!
//! Any number of gateways may share a PostgreSQL ledger: all of this holds for them together.
//!
//! A request passes `service` (routes, authority, time limit), `intake` (what is well formed)
//! and `desk` (which batches are at work), and ends in the `ledger`.

mod applied;
mod desk;
mod faults;
mod forward;
mod intake;
mod ledger;
mod ledger_postgres;
mod ledger_redb;
mod metrics;
mod refusal;
mod serve;
mod service;
mod tls;
mod tokens;
mod trust;

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use tracing_subscriber::EnvFilter;

use crate::exit;
use crate::logging;
use crate::protocol::wire;
use faults::Faults;
use forward::{Forwarding, TargetError};
use ledger::OpenError;
use tls::TlsError;
use tokens::TokenFileError;

/// Takes batches of records from field devices, and applies each record once.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "fieldsync-gateway", version)]
pub struct Options {
    /// Address to listen on; port 0 takes a free one, and the line on standard output names it.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,

    /// The ledger: a file, made when it does not exist, or the URL of a PostgreSQL database, which any number of
    /// gateways may share.
    ///
    /// The URL is that of psql, with sslmode=disable, prefer, require or verify-full, and sslrootcert=FILE. Its password may
    /// come from $PGPASSWORD instead. The tables are made in a schema of their own, `fieldsync`. A gateway has up to 13
    /// connections with the database. They must stay its own: a pooler in between must pool by session
    /// (pgbouncer: `pool_mode = session`).
    #[arg(long, value_name = "PATH|postgres://…")]
    store: String,

    /// Path of the batch endpoint.
    #[arg(long, default_value = wire::BATCH_PATH, value_parser = parse_path)]
    path: String,

    /// File with the bearer tokens, one a line; without it, everyone is let in.
    ///
    /// `TOKEN` lets in any device, `DEVICE TOKEN` the device with this id alone (`fieldsync status --json` tells it). A
    /// token may stand there as `sha256:HEX`, its SHA-256: the file then holds no secret. Several tokens are valid at
    /// once. Empty lines and those that begin with # are passed over. SIGHUP makes the gateway read the file again.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// PEM file of the certificate chain: serves TLS instead of plain HTTP.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// PEM file of the certificate's key.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Largest body, counted after decoding.
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = parse_size)]
    max_body_bytes: usize,

    /// How long the answer of a batch is kept.
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = parse_duration)]
    keep_answers: Duration,

    #[command(flatten)]
    forward: Forwarding,

    #[command(flatten)]
    faults: Faults,
}

/// Why the gateway ended.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Tokens(#[from] TokenFileError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Forward(#[from] TargetError),
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("cannot start")]
    Start(#[source] io::Error),
    #[error("cannot name the address on standard output")]
    Announce(#[source] io::Error),
    #[error("the server failed")]
    Serve(#[source] io::Error),
    #[error("the ledger did not close cleanly")]
    Close(#[source] ledger::LedgerError),
}

impl RunError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Tokens(_)
            | Self::Tls(_)
            | Self::Forward(_)
            | Self::Store(
                OpenError::Foreign { .. }
                | OpenError::Schema { .. }
                | OpenError::Address(_)
                | OpenError::Unfit { .. },
            ) => exit::CONFIG,
            Self::Store(OpenError::Locked { .. }) => exit::ALREADY_RUNNING,
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => exit::ALREADY_RUNNING,
            Self::Store(
                OpenError::File { .. } | OpenError::Engine { .. } | OpenError::Unreachable { .. },
            )
            | Self::Close(_) => exit::DISK,
            Self::Store(OpenError::Start(_))
            | Self::Listen { .. }
            | Self::Start(_)
            | Self::Announce(_)
            | Self::Serve(_) => exit::FAILED,
        }
    }
}

/// Runs until a signal ends it, and says with which code the process is to exit.
pub fn run(options: &Options) -> u8 {
    init_logging();
    match serve::serve(options) {
        Ok(()) => exit::DONE,
        Err(error) => {
            // Nobody is left to tell when standard error is gone.
            drop(writeln!(io::stderr(), "fieldsync-gateway: {}", with_causes(&error)));
            error.exit_code()
        }
    }
}

fn init_logging() {
    // The workers' comings and goings are the server library's own affair.
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,actix_server=warn"));
    // A program that embeds the gateway may have set up its own.
    drop(logging::to_stderr(filter));
}

/// The error and its causes in one line, for people.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let reason = source.to_string();
        // Wrappers often repeat the text of what they wrap.
        if !text.ends_with(&reason) && write!(text, ": {reason}").is_err() {
            break;
        }
        cause = source.source();
    }
    text
}

fn parse_path(text: &str) -> Result<String, String> {
    let path = text.trim_end_matches('/');
    if !path.starts_with('/') || path.contains(['{', '}', '?', '#', ' ']) {
        return Err("must be a plain path such as /sync/batch".into());
    }
    if service::OWN_PATHS.contains(&path) {
        return Err("is a path of the gateway's own".into());
    }
    Ok(path.into())
}

fn parse_size(text: &str) -> Result<usize, String> {
    let size = text.parse::<ByteSize>()?.as_u64();
    match usize::try_from(size) {
        Ok(0) => Err("must not be zero".into()),
        Ok(size) => Ok(size),
        Err(error) => Err(error.to_string()),
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("must not be zero".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}
