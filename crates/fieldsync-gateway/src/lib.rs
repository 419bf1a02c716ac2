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
//! A request passes `routes` (authority, time limit), `batch_validation` (what is well formed)
//! and `batch_processor` (which batches are at work), and ends in the `ledger`.

mod applied_entry;
mod batch_processor;
mod batch_validation;
mod client_tls;
mod fault_injection;
mod forward;
mod ledger;
mod ledger_postgres;
mod ledger_redb;
mod lifecycle;
mod listener;
mod manual;
mod metrics;
mod option_values;
mod options;
mod request_error;
mod routes;
mod server_tls;
mod token_file;

use std::io::{self, Write as _};
use std::net::SocketAddr;

use tracing_subscriber::EnvFilter;

use causes::with_causes;
use fieldsync_core::stderr_log::init_stderr_log;
use fieldsync_core::{causes, clock, exit, model, policy, protocol};
use forward::TargetError;
use ledger::OpenError;
use ledger_postgres::AddressError;
use server_tls::TlsError;
use token_file::TokenFileError;

pub use manual::write_manual;
pub use options::Options;

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
    Address(#[from] AddressError),
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
            | Self::Address(_)
            | Self::Store(OpenError::Foreign { .. } | OpenError::Schema { .. } | OpenError::Unfit { .. }) => {
                exit::CONFIG
            }
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
    match lifecycle::serve(options) {
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
    drop(init_stderr_log(filter));
}
