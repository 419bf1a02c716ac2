//! The command line of the gateway.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::fault_injection::FaultOptions;
use super::forward::ForwardOptions;
use super::option_values::{parse_duration, parse_size};
use super::routes::RESERVED_PATHS;
use crate::protocol::wire;

/// Accepts batches of records from field devices, and applies each record once.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "fieldsync-gateway", version)]
pub struct GatewayOptions {
    /// Address to listen on; with port 0 the system chooses a port, which the line on standard output names.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(super) listen: SocketAddr,

    /// The ledger: a file, which is created if it does not exist, or the URL of a PostgreSQL database, which any
    /// number of gateways may share.
    ///
    /// The URL has the form that psql takes, with sslmode=disable, prefer, require or verify-full, and
    /// sslrootcert=FILE. The password may come from $PGPASSWORD instead. The gateway creates its tables in a schema
    /// `fieldsync`. It opens up to 13 connections to the database and needs them for itself: a connection pooler in
    /// between must pool by session (pgbouncer: `pool_mode = session`).
    #[arg(long, value_name = "PATH|postgres://…")]
    pub(super) store: String,

    /// Path of the batch endpoint.
    #[arg(long, default_value = wire::BATCH_PATH, value_parser = parse_path)]
    pub(super) path: String,

    /// File with the bearer tokens, one per line; without it, no token is required.
    ///
    /// `TOKEN` admits any device, `DEVICE TOKEN` only the device with this id (`fieldsync status --json` shows it).
    /// `sha256:HEX` may replace a token by its SHA-256, so that the file holds no secret. Several tokens may be valid at
    /// the same time. Empty lines and lines that begin with # are ignored. SIGHUP reloads the file.
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,

    /// PEM file of the certificate chain: serves TLS instead of plain HTTP.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(super) tls_cert: Option<PathBuf>,

    /// PEM file of the certificate's key.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(super) tls_key: Option<PathBuf>,

    /// Largest body, measured after decoding.
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = parse_size)]
    pub(super) max_body_bytes: usize,

    /// How long the response to a batch is kept.
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = parse_duration)]
    pub(super) keep_answers: Duration,

    #[command(flatten)]
    pub(super) forward: ForwardOptions,

    #[command(flatten)]
    pub(super) faults: FaultOptions,
}

fn parse_path(text: &str) -> Result<String, String> {
    let path = text.trim_end_matches('/');
    if !path.starts_with('/') || path.contains(['{', '}', '?', '#', ' ']) {
        return Err("must be a plain path such as /sync/batch".into());
    }
    if RESERVED_PATHS.contains(&path) {
        return Err("is reserved by the gateway".into());
    }
    Ok(path.into())
}
