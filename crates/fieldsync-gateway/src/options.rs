//! The command line of the gateway.
//!
//! Each option that is also a key of the configuration file is optional here: an option that was not given leaves the
//! value of the file, or else the default, in effect. The names of the fields are those of the keys.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

use super::fault_injection::FaultOptions;
use super::forward::ForwardFlags;
use super::gateway_config::BatchPath;
use super::option_values::{PositiveDuration, parse_size};
use crate::config::Size;

/// Accepts batches of records from field devices, and applies each record once.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "fieldsync-gateway", version)]
pub struct GatewayOptions {
    /// Configuration file (TOML). Options on the command line win over its keys. SIGHUP reads it again.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// Check the configuration and the files that it names, print what is in effect with secrets masked, and exit.
    #[arg(long)]
    pub(super) check_config: bool,

    #[command(flatten)]
    pub(super) flags: ConfigFlags,
}

/// The options that win over the configuration file, by section.
#[derive(Clone, Debug, clap::Args, Serialize)]
pub(super) struct ConfigFlags {
    #[command(flatten)]
    gateway: GatewayFlags,
    #[command(flatten)]
    forward: ForwardFlags,
    #[command(flatten)]
    faults: FaultOptions,
}

/// `[gateway]`, as options.
#[derive(Clone, Debug, clap::Args, Serialize)]
struct GatewayFlags {
    /// Address to listen on; with port 0 the system chooses a port, which the line on standard output names
    /// [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,

    /// The ledger: a file, which is created if it does not exist, or the URL of a PostgreSQL database, which any
    /// number of gateways may share. Required, unless the configuration file names it.
    ///
    /// The URL has the form that psql takes, with sslmode=disable, prefer, require or verify-full, and
    /// sslrootcert=FILE. The password may come from $PGPASSWORD instead. The gateway creates its tables in a schema
    /// `fieldsync`. It opens up to 16 connections to each server of the database. A pooler in between may pool by
    /// transaction (pgbouncer: `pool_mode = transaction`). Without one, or with one that knows statements by name,
    /// `prepared_statements=true` saves the database work. A URL may name several hosts of a database that fails over:
    /// the first that accepts writes is used.
    #[arg(long, value_name = "PATH|postgres://…", required_unless_present = "config")]
    store: Option<String>,

    /// Path of the batch endpoint [default: /crm/v2/mobile/sync/batch].
    #[arg(long)]
    path: Option<BatchPath>,

    /// File with the bearer tokens, one per line; without it, no token is required.
    ///
    /// `TOKEN` admits any device, `DEVICE TOKEN` only the device with this id (`fieldsync status --json` shows it).
    /// `sha256:HEX` may replace a token by its SHA-256, so that the file holds no secret. Several tokens may be valid at
    /// the same time. Empty lines and lines that begin with # are ignored. SIGHUP reloads the file.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// File with the tokens of operators, one per line, as in --token-file; without it, there are no paths below /admin.
    ///
    /// An operator sees the devices, and reviews records that could not be forwarded: `fieldsync-gateway devices --help`,
    /// `fieldsync-gateway refused --help`, and the page at /admin/. SIGHUP reloads the file.
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,

    /// PEM file of the certificate chain: serves TLS instead of plain HTTP.
    #[arg(long = "tls-cert", value_name = "FILE", requires = "tls_key_file")]
    tls_cert_file: Option<PathBuf>,

    /// PEM file of the certificate's key.
    #[arg(long = "tls-key", value_name = "FILE", requires = "tls_cert_file")]
    tls_key_file: Option<PathBuf>,

    /// Largest body, measured after decoding [default: 8MiB].
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_body_bytes: Option<Size>,

    /// How long the response to a batch is kept [default: 30d].
    #[arg(long, value_name = "DURATION")]
    keep_answers: Option<PositiveDuration>,

    /// How long an applied record is known by its id [default: 400d].
    ///
    /// At least as long as the response to a batch. A record that its device sends again later than this is applied once
    /// more. A record that waits to be forwarded or reviewed is known until then in any case.
    #[arg(long, value_name = "DURATION")]
    keep_records: Option<PositiveDuration>,
}
