//! The link to the server.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use strum::Display;
use utoipa::ToSchema;

/// Whether the server can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Display, ToSchema)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum LinkState {
    /// Not known yet.
    #[default]
    Unknown,
    /// The server responded.
    Online,
    /// The server cannot be reached.
    Offline,
    /// A captive portal responds instead of the server.
    CaptivePortal,
}

impl LinkState {
    /// Whether nothing may be sent.
    pub fn is_closed(self) -> bool {
        matches!(self, Self::Offline | Self::CaptivePortal)
    }

    /// The name in the API and in the journal.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Online => "online",
            Self::Offline => "offline",
            Self::CaptivePortal => "captive_portal",
        }
    }
}

/// The kind of a network interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InterfaceKind {
    /// A cable.
    Ethernet,
    /// A wireless network.
    Wifi,
    /// A mobile network.
    Cellular,
    /// The loopback interface.
    Loopback,
    /// A tunnel, a bridge, or another kind.
    Other,
}

impl InterfaceKind {
    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ethernet => "ethernet",
            Self::Wifi => "wifi",
            Self::Cellular => "cellular",
            Self::Loopback => "loopback",
            Self::Other => "other",
        }
    }
}

/// Why sending is deferred although the server may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deferral {
    /// The link is metered.
    Metered,
    /// The battery is low.
    Battery,
}

/// Why no connection to the server could be opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectFailure {
    /// Nothing listens at the address and port of the server.
    Refused,
    /// The name of the server cannot be resolved.
    NameUnknown,
    /// There is no route to the server.
    NoRoute,
    /// The server does not respond to the attempt to connect.
    NoResponse,
    /// The certificate of the server is not valid yet, by the clock of this device.
    CertificateNotYetValid,
    /// The certificate of the server has expired, by the clock of this device.
    CertificateExpired,
    /// The certificate of the server is of an authority that is not trusted.
    CertificateNotTrusted,
    /// A failure of TLS whose cause is known.
    TlsExplained(TlsExplanation),
    /// Any other failure of TLS.
    Tls,
    /// The server responds, but not with HTTP.
    NotHttp,
    /// The server closes the connection without a response.
    Closed,
    /// The proxy cannot be reached, or does not connect to the server.
    Proxy,
    /// Any other reason.
    #[default]
    Other,
}

/// Why TLS failed, and what people can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsExplanation {
    /// What is wrong, about the peer: `its certificate is for another name`.
    pub what: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

impl TlsExplanation {
    /// The certificate has expired.
    pub const EXPIRED: Self = Self {
        what: "its certificate has expired, by the clock of this device",
        remedy: "check the clock (timedatectl); if it is right, the server needs a new certificate",
    };
    /// The authority is not known.
    pub const NOT_TRUSTED: Self = Self {
        what: "its certificate is of an authority that this device does not trust",
        remedy: "on a strange network, log in first; else name its PEM file in server.ca_file",
    };
}

/// The link to the server, as the connectivity actor publishes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Whether the server can be reached.
    pub state: LinkState,
    /// Since when, in wall milliseconds.
    pub since: u64,
    /// How often the link came up again: what waited for the link may continue.
    pub reopenings: u64,
    /// How often the network path changed so that earlier connections are useless.
    pub path_changes: u64,
    /// How often a local address disappeared: connections from it are useless.
    pub address_changes: u64,
    /// Whether the system says that traffic is metered.
    pub metered: Option<bool>,
    /// Why sending is deferred although the server may be reached.
    pub deferral: Option<Deferral>,
    /// The interface of the route to the server.
    pub interface: Option<InterfaceKind>,
    /// Why the last attempt to connect failed, until the server responds.
    pub failure: Option<ConnectFailure>,
    /// Whether the system has a route to the server; none if that is not known.
    pub has_route: Option<bool>,
    /// When the server is tried again, in wall milliseconds, while it cannot be reached.
    pub next_attempt_at: Option<u64>,
}

/// What the operating system knows of the route to the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Uplink {
    /// The routes are not watched.
    #[default]
    Unknown,
    /// The system has no route to the server.
    Down,
    /// There is a route, from these local addresses.
    Up(BTreeSet<IpAddr>),
}
