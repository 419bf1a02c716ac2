//! The configuration of the gateway: its sections, keys and defaults.
//!
//! The table of keys in `docs/server.md` is held against this file by a test.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::admin::ADMIN_PATH;
use super::destination_config::DestinationConfig;
use super::fault_injection::FaultOptions;
use super::fleet::FleetSection;
use super::forward::ForwardOptions;
use super::option_values::PositiveDuration;
use super::routes::RESERVED_PATHS;
use crate::config::Size;
use crate::protocol::wire;

/// Each batch in flight needs memory, and a database does not become faster by more.
const IN_FLIGHT_MAX_DEFAULT: NonZeroUsize = NonZeroUsize::new(128).unwrap();

/// Devices keep an idle connection for ten seconds, and a fleet returns at once.
const CONNECTIONS_MAX_DEFAULT: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// The whole configuration.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct GatewayConfig {
    pub(crate) gateway: GatewaySection,
    pub(crate) destination: DestinationConfig,
    pub(crate) forward: ForwardOptions,
    pub(crate) fleet: FleetSection,
    pub(crate) faults: FaultOptions,
}

/// `[gateway]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct GatewaySection {
    pub(crate) listen: SocketAddr,
    /// A path, or the URL of a database. It has no default.
    pub(crate) store: String,
    pub(crate) path: BatchPath,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) admin_token_file: Option<PathBuf>,
    pub(crate) tls_cert_file: Option<PathBuf>,
    pub(crate) tls_key_file: Option<PathBuf>,
    /// Authorities of which each client must show a certificate.
    pub(crate) client_ca_file: Option<PathBuf>,
    pub(crate) max_body_bytes: Size,
    /// How long devices, and proxies in front, wait for the response to a batch.
    pub(crate) device_time_limit: PositiveDuration,
    /// Open connections.
    pub(crate) max_connections: NonZeroUsize,
    /// Batches that are processed at a time.
    pub(crate) max_in_flight: NonZeroUsize,
    /// Batches of one device at a time.
    pub(crate) max_in_flight_per_device: Option<NonZeroUsize>,
    pub(crate) keep_answers: PositiveDuration,
    /// How long ids and digests of applied records are known.
    pub(crate) keep_records: PositiveDuration,
}

impl Default for GatewaySection {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8080).into(),
            store: String::new(),
            path: BatchPath(wire::BATCH_PATH.into()),
            token_file: None,
            admin_token_file: None,
            tls_cert_file: None,
            tls_key_file: None,
            client_ca_file: None,
            max_body_bytes: Size::mib(8),
            device_time_limit: PositiveDuration::secs(60),
            max_connections: CONNECTIONS_MAX_DEFAULT,
            max_in_flight: IN_FLIGHT_MAX_DEFAULT,
            max_in_flight_per_device: None,
            keep_answers: PositiveDuration::days(30),
            keep_records: PositiveDuration::days(400),
        }
    }
}

/// The path of the batch endpoint, without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct BatchPath(pub(crate) String);

impl FromStr for BatchPath {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = text.trim_end_matches('/');
        if !path.starts_with('/') || path.contains(['{', '}', '?', '#', ' ']) {
            return Err("must be a plain path such as /sync/batch");
        }
        if RESERVED_PATHS.contains(&path) || Path::new(path).starts_with(ADMIN_PATH) {
            return Err("is reserved by the gateway");
        }
        Ok(Self(path.into()))
    }
}

impl TryFrom<String> for BatchPath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|reason| format!("`{text}` {reason}"))
    }
}
