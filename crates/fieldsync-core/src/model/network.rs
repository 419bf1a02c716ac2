//! What the network was like during a request.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::InterfaceKind;

/// What the network was like during a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Until the first body byte could be written: name, TCP and TLS for a new connection,
    /// next to nothing for one that was kept.
    pub connect: Option<Duration>,
    /// Bytes of the body as it went out.
    pub body_bytes: u64,
    /// Until the kernel had accepted the last body byte; none if it did not.
    #[serde(default)]
    pub sent: Option<Duration>,
    /// From the first accepted body byte to the head of the response, or to the end.
    pub exchange: Option<Duration>,
    /// The kernel's smoothed round trip at the end, to the proxy where there is one.
    #[serde(default)]
    pub round_trip: Option<Duration>,
    /// The interface to the server, if it is known.
    #[serde(default)]
    pub interface: Option<InterfaceKind>,
    /// The signal at the end in dBm, on a wireless interface, if the system reports it.
    #[serde(default)]
    pub signal_dbm: Option<i16>,
    /// Whether the system says that traffic is metered.
    #[serde(default)]
    pub metered: Option<bool>,
    /// The time since the link came up or led another way, at the end; none if that was before the daemon started.
    #[serde(default)]
    pub link_age: Option<Duration>,
}
