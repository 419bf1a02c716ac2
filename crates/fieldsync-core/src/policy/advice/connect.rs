//! Why the server cannot be reached, and what to do about it.

use super::obstacle::Obstacle;
use super::{DeviceFacts, ServerName};
use crate::api::SyncReason;
use crate::clock::minute_text;
use crate::model::{ConnectFailure, InterfaceKind, LinkState, TlsExplanation};

/// The server cannot be reached: says which part of the way is missing.
pub(super) fn find_link_fault(device: &DeviceFacts<'_>) -> Obstacle {
    let link = device.link;
    if link.state == LinkState::CaptivePortal {
        let network = match link.interface {
            None | Some(InterfaceKind::Wifi) => "the Wi-Fi",
            Some(_) => "the network",
        };
        return Obstacle::new(
            SyncReason::LoginPage,
            format!("The login page of {network} responds in place of the server"),
            "",
            "log in to the network with a browser; then sending continues by itself",
        );
    }
    if link.has_route == Some(false)
        || (link.failure == Some(ConnectFailure::NoRoute) && link.has_route.is_none())
    {
        return Obstacle::new(
            SyncReason::NoNetwork,
            "Offline",
            "This device has no network.",
            "connect the device to a network; then sending continues by itself",
        );
    }
    match link.failure {
        Some(failure) => describe_connect_failure(device, failure),
        None => Obstacle::new(
            SyncReason::ServerDown,
            "The server cannot be reached",
            "",
            "fieldsync doctor says why",
        ),
    }
}

pub(super) fn describe_connect_failure(device: &DeviceFacts<'_>, failure: ConnectFailure) -> Obstacle {
    let host = device.server.map_or("the server", ServerName::host);
    let address = device.server.map_or_else(|| "the server".to_owned(), ServerName::host_and_port);
    let unreachable = |reason, detail: String, remedy: &str| {
        Obstacle::new(reason, "The server cannot be reached", detail, remedy)
    };
    match failure {
        ConnectFailure::Refused => unreachable(
            SyncReason::ServerDown,
            format!("The network is there; nothing listens at {address}."),
            "start the server, or correct server.url; then sending continues by itself",
        ),
        ConnectFailure::NameUnknown => unreachable(
            SyncReason::NameUnknown,
            format!("The name {host} is not known."),
            "correct server.url, or the name servers of this network; fieldsync doctor says more",
        ),
        ConnectFailure::NoRoute => unreachable(
            SyncReason::NoRoute,
            format!("The network is there, but it has no way to {address}."),
            "use a network that reaches the server; fieldsync doctor says more",
        ),
        ConnectFailure::NoResponse => unreachable(
            SyncReason::ServerDown,
            format!("The network is there; {address} does not respond."),
            "check that the server runs and that no firewall is in between; fieldsync doctor says more",
        ),
        ConnectFailure::NotHttp => unreachable(
            SyncReason::Misconfigured,
            format!("{address} responds, but not with HTTP."),
            "check scheme and port of server.url: https:// where the server has TLS",
        ),
        ConnectFailure::Closed => unreachable(
            SyncReason::ConnectionLost,
            format!("{address} closes the connection without a response."),
            closed_remedy(device.server),
        ),
        ConnectFailure::Proxy => unreachable(
            SyncReason::Proxy,
            "The proxy does not respond, or does not let the connection through.".into(),
            "correct server.proxy; fieldsync doctor says more",
        ),
        ConnectFailure::Other => unreachable(
            SyncReason::ServerDown,
            format!("The connection to {address} fails."),
            "check server.url; fieldsync doctor says why",
        ),
        ConnectFailure::CertificateNotYetValid
        | ConnectFailure::CertificateExpired
        | ConnectFailure::CertificateNotTrusted
        | ConnectFailure::TlsExplained(_)
        | ConnectFailure::Tls => describe_tls_failure(device, failure, host, &address),
    }
}

/// Without TLS, a server that wants it is the most likely cause.
fn closed_remedy(server: Option<ServerName<'_>>) -> &'static str {
    if server.is_some_and(|server| !server.url.starts_with("https:")) {
        "check scheme and port of server.url: https:// where the server has TLS; if they are right, tell the \
         administrator of the server"
    } else {
        "check the port of server.url; if it is right, a firewall in between or the server ends the connection"
    }
}

fn describe_tls_failure(
    device: &DeviceFacts<'_>,
    failure: ConnectFailure,
    host: &str,
    address: &str,
) -> Obstacle {
    let clock = minute_text(device.now);
    let (detail, remedy) = match failure {
        ConnectFailure::CertificateNotYetValid => {
            return Obstacle::new(
                SyncReason::ClockWrong,
                "The clock of this device is wrong",
                format!("It shows {clock}, before the certificate of {host} was made."),
                "set the clock: sudo timedatectl set-ntp true",
            );
        }
        ConnectFailure::CertificateExpired => (
            format!("The certificate of {host} has expired, by the clock of this device ({clock})."),
            TlsExplanation::EXPIRED.remedy,
        ),
        ConnectFailure::CertificateNotTrusted => (
            format!("The certificate of {host} is of an authority that this device does not trust."),
            TlsExplanation::NOT_TRUSTED.remedy,
        ),
        ConnectFailure::TlsExplained(TlsExplanation { what, remedy }) => {
            (format!("The encrypted connection (TLS) to {address} fails: {what}."), remedy)
        }
        _ => (
            format!("No encrypted connection (TLS) to {address} can be made."),
            "check scheme and port of server.url; fieldsync doctor says more",
        ),
    };
    Obstacle::new(SyncReason::Tls, "The server cannot be reached", detail, remedy)
}
