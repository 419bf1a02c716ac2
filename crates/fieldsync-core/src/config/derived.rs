//! Values that follow from the configuration: addresses, paths, and limits.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{Config, Ipc, Server, Telemetry, Web, address};

impl Web {
    /// The address of the page; `None` for no page.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listen.parse().ok()
    }
}

/// One of this many connections is reserved for calls.
const CALL_CONNECTION_DIVISOR: usize = 4;

impl Ipc {
    /// The maximum number of event streams, so that some connections are left for calls.
    pub fn event_streams(&self) -> usize {
        let left =
            self.max_connections.saturating_sub(self.max_connections.div_ceil(CALL_CONNECTION_DIVISOR));
        self.max_event_streams.min(left.max(1))
    }
}

impl Server {
    /// Whether requests to the server leave this device unencrypted.
    pub fn is_unencrypted(&self) -> bool {
        address::is_unencrypted(&self.url)
    }

    /// Normalizes the addresses. Invalid ones are left unchanged.
    pub(super) fn normalize_addresses(&mut self) {
        for (text, read) in [
            (&mut self.url, address::read_server_url as fn(&str) -> Result<String, String>),
            (&mut self.proxy, address::read_proxy_url),
        ] {
            if let Ok(used) = read(text) {
                *text = used;
            }
        }
    }
}

impl Telemetry {
    /// Whether requests to the collector leave this device unencrypted.
    pub fn is_unencrypted(&self) -> bool {
        address::is_unencrypted(&self.otlp_url)
    }

    /// Whether the collector is on this device.
    pub fn is_collector_local(&self) -> bool {
        address::is_local(&self.otlp_url)
    }

    /// Normalizes the address. An invalid one is left unchanged.
    pub(super) fn normalize_address(&mut self) {
        if let Ok(used) = address::read_collector_url(&self.otlp_url) {
            self.otlp_url = used;
        }
    }
}

impl Config {
    /// The directory of the queue.
    pub fn state_dir(&self) -> PathBuf {
        self.queue
            .state_dir
            .clone()
            .or_else(|| first_directory("STATE_DIRECTORY"))
            .unwrap_or_else(|| PathBuf::from("/var/lib/fieldsync"))
    }

    /// The socket of the local API.
    pub fn socket(&self) -> PathBuf {
        self.ipc.socket.clone().unwrap_or_else(default_socket)
    }

    /// The time that a batch may take: the gateway's limit minus the margin.
    pub fn time_budget(&self) -> Duration {
        self.server.request_timeout.0.mul_f64(1.0 - self.batch.safety_margin)
    }

    /// As TOML, with all values as they are. People see [`Self::to_masked_toml`].
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| format!("# cannot be printed: {error}\n"))
    }
}

/// The default socket.
pub fn default_socket() -> PathBuf {
    first_directory("RUNTIME_DIRECTORY")
        .unwrap_or_else(|| PathBuf::from("/run/fieldsync"))
        .join("fieldsync.sock")
}

/// systemd separates directories with colons. The first is used.
fn first_directory(variable: &str) -> Option<PathBuf> {
    let value = std::env::var_os(variable)?;
    std::env::split_paths(&value).next().filter(|path| path.is_absolute())
}
