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
    /// Until the kernel had taken the last body byte from us; none when it did not.
    #[serde(default)]
    pub sent: Option<Duration>,
    /// From the first body byte taken to the answer's head, or the end.
    pub exchange: Option<Duration>,
    /// The kernel's smoothed round trip at the end, to the proxy where there is one.
    #[serde(default)]
    pub round_trip: Option<Duration>,
    /// What led to the server, where it is known.
    #[serde(default)]
    pub interface: Option<InterfaceKind>,
    /// The signal at the end in dBm, where that was wireless and the system tells.
    #[serde(default)]
    pub signal_dbm: Option<i16>,
}
