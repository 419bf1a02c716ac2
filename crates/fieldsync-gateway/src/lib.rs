//! The server side of the protocol: accepts batches over HTTP and applies each record once.
//!
//! Guarantees:
//! - **One response for each batch.** The first response for a (device, batch id) is durable before it
//!   is sent, and is kept for `--keep-answers`. Every resend and every outcome query gets the same one.
//! - **A record is applied once**, whichever batches carry it, and even if they arrive at the same time:
//!   the ledger's transaction decides. Its id is known for `--keep-records`.
//! - **All or nothing.** Without a destination, the records of a batch and its response are one transaction: a crash at any
//!   moment leaves all of it or none.
//! - **With a destination, `applied` means that the destination has the record**, with its receipt. Verdicts are
//!   durable as they come, the last ones with the response. What a crash leaves open is handed over once more.
//! - **A batch in flight continues** when the client, or a proxy in front, hangs up.
//! - **With `--forward`, applied records are forwarded** at least once, those of a device and key in order.
//!
//! Any number of gateways may share a PostgreSQL ledger: the guarantees then hold for all of them together.
//!
//! A request passes `routes` (authorization, time limit), `batch_validation` and `batch_processor`
//! (batches in flight), and ends in the `ledger`.

mod admin;
mod admin_client;
mod applied_entry;
mod batch_processor;
mod batch_validation;
mod bearer_token;
mod client_certificate;
mod client_tls;
mod command_line;
mod config_check;
mod config_file;
mod conformance;
mod connection_places;
mod credential_file;
mod destination;
mod destination_config;
mod device_contacts;
mod device_limit;
mod devices_command;
mod digest;
mod failure;
mod fault_injection;
mod fleet;
mod forward;
mod forward_control;
mod gateway_config;
mod http_client;
mod ledger;
mod ledger_postgres;
mod ledger_redb;
mod ledger_token_budget;
mod lifecycle;
mod listener;
mod load_control;
mod manual;
mod memory;
mod metrics;
mod option_values;
mod options;
mod refused_command;
mod reload;
mod request_error;
mod retry_after;
mod routes;
mod server_tls;
mod service_manager;
mod startup;
mod token_file;
mod validated_batch;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tracing_subscriber::EnvFilter;

use config_file::{ConfigFileError, LoadedConfig};
use destination::{LocalTokenBudget, ReloadCache};
use destination_config::DestinationConfigError;
use failure::report_failure;
use fieldsync_core::stderr_log::init_stderr_log;
use fieldsync_core::{causes, clock, config, exit, hidden, model, policy, protocol};
use forward::ForwardTargetError;
use ledger::LedgerOpenError;
use ledger_postgres::DatabaseUrlError;
use server_tls::ServerTlsError;
use token_file::TokenFileError;

pub use command_line::{GatewayCommand, parse_command_line};
pub use conformance::{ConformanceCommand, run_conformance_command};
pub use devices_command::{DevicesCommand, run_devices_command};
pub use manual::write_manual;
pub use options::GatewayOptions;
pub use refused_command::{RefusedCommand, run_refused_command};

/// Why the gateway ended.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Config(#[from] ConfigFileError),
    /// With the place of the key that names the cause.
    #[error("{place}")]
    AtKey { place: String, source: Box<Self> },
    #[error(transparent)]
    Destination(#[from] DestinationConfigError),
    #[error(transparent)]
    Tokens(#[from] TokenFileError),
    #[error(transparent)]
    Tls(#[from] ServerTlsError),
    #[error(transparent)]
    Forward(#[from] ForwardTargetError),
    #[error(transparent)]
    DatabaseUrl(#[from] DatabaseUrlError),
    #[error(transparent)]
    Store(#[from] LedgerOpenError),
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("cannot start")]
    Start(#[source] io::Error),
    #[error("cannot write the address to standard output")]
    Announce(#[source] io::Error),
    #[error("the server failed")]
    Serve(#[source] io::Error),
    #[error("the ledger did not close cleanly")]
    Close(#[source] ledger::LedgerError),
}

impl RunError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::AtKey { source, .. } => source.exit_code(),
            Self::Config(_)
            | Self::Destination(_)
            | Self::Tokens(_)
            | Self::Tls(_)
            | Self::Forward(_)
            | Self::DatabaseUrl(_)
            | Self::Store(
                LedgerOpenError::Foreign { .. }
                | LedgerOpenError::Schema { .. }
                | LedgerOpenError::Unfit { .. },
            ) => exit::CONFIG,
            Self::Store(LedgerOpenError::Locked { .. }) => exit::ALREADY_RUNNING,
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => exit::ALREADY_RUNNING,
            Self::Store(
                LedgerOpenError::File { .. }
                | LedgerOpenError::Engine { .. }
                | LedgerOpenError::Unreachable { .. },
            )
            | Self::Close(_) => exit::DISK,
            Self::Store(LedgerOpenError::Start(_))
            | Self::Listen { .. }
            | Self::Start(_)
            | Self::Announce(_)
            | Self::Serve(_) => exit::FAILED,
        }
    }
}

/// Runs until a signal ends it, and returns the exit code for the process.
pub fn run_gateway(options: &GatewayOptions) -> u8 {
    init_logging();
    memory::refuse_huge_pages();
    match LoadedConfig::load(options).map_err(RunError::from).and_then(|loaded| run(options, loaded)) {
        Ok(()) => exit::DONE,
        Err(error) => report_failure(&error, error.exit_code()),
    }
}

fn run(options: &GatewayOptions, loaded: LoadedConfig) -> Result<(), RunError> {
    if options.check_config {
        startup::check_config(&loaded, &ReloadCache::new(Arc::new(LocalTokenBudget::new())))
    } else {
        lifecycle::run_until_signal(options, loaded)
    }
}

fn init_logging() {
    // At "info", the server library logs the start and end of each worker.
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,actix_server=warn"));
    // A program that embeds the gateway may have set up logging already.
    drop(init_stderr_log(filter));
}
