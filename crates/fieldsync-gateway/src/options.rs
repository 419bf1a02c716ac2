//! The command line of the gateway.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::fault_injection::Faults;
use super::forward::Forwarding;
use super::option_values::{parse_duration, parse_size};
use super::routes::OWN_PATHS;
use crate::protocol::wire;

/// Takes batches of records from field devices, and applies each record once.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "fieldsync-gateway", version)]
pub struct Options {
    /// Address to listen on; port 0 takes a free one, and the line on standard output names it.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(super) listen: SocketAddr,

    /// The ledger: a file, made when it does not exist, or the URL of a PostgreSQL database, which any number of
    /// gateways may share.
    ///
    /// The URL is that of psql, with sslmode=disable, prefer, require or verify-full, and sslrootcert=FILE. Its password may
    /// come from $PGPASSWORD instead. The tables are made in a schema of their own, `fieldsync`. A gateway has up to 13
    /// connections with the database. They must stay its own: a pooler in between must pool by session
    /// (pgbouncer: `pool_mode = session`).
    #[arg(long, value_name = "PATH|postgres://…")]
    pub(super) store: String,

    /// Path of the batch endpoint.
    #[arg(long, default_value = wire::BATCH_PATH, value_parser = parse_path)]
    pub(super) path: String,

    /// File with the bearer tokens, one a line; without it, everyone is let in.
    ///
    /// `TOKEN` lets in any device, `DEVICE TOKEN` the device with this id alone (`fieldsync status --json` tells it). A
    /// token may stand there as `sha256:HEX`, its SHA-256: the file then holds no secret. Several tokens are valid at
    /// once. Empty lines and those that begin with # are passed over. SIGHUP makes the gateway read the file again.
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,

    /// PEM file of the certificate chain: serves TLS instead of plain HTTP.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(super) tls_cert: Option<PathBuf>,

    /// PEM file of the certificate's key.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(super) tls_key: Option<PathBuf>,

    /// Largest body, counted after decoding.
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = parse_size)]
    pub(super) max_body_bytes: usize,

    /// How long the answer of a batch is kept.
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = parse_duration)]
    pub(super) keep_answers: Duration,

    #[command(flatten)]
    pub(super) forward: Forwarding,

    #[command(flatten)]
    pub(super) faults: Faults,
}

fn parse_path(text: &str) -> Result<String, String> {
    let path = text.trim_end_matches('/');
    if !path.starts_with('/') || path.contains(['{', '}', '?', '#', ' ']) {
        return Err("must be a plain path such as /sync/batch".into());
    }
    if OWN_PATHS.contains(&path) {
        return Err("is a path of the gateway's own".into());
    }
    Ok(path.into())
}
