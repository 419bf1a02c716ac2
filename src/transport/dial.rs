//! Opens connections: resolves the server or its proxy, tries every address, and passes the proxy.

use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::iter::successors;
use std::rc::Rc;

use hyper::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use thiserror::Error;
use tower_service::Service;

use super::connection::{ClientStream, TcpConnection};
use super::host::host_and_port;
use super::proxy::{Proxy, TunnelError};
use super::slot::Slot;
use super::tls::{TlsClient, TlsError, TlsPeer, classify_tls_error, explain_tls_error};
use crate::causes::with_causes;
use crate::clock::Clock;
use crate::config;
use crate::model::ConnectFailure;

/// Why a connection could not be opened. Nothing was sent, and the records wait.
#[derive(Debug, Error)]
pub(super) enum DialError {
    /// No address of the server could be reached.
    #[error("cannot connect to {to}: {why}")]
    Server { to: String, why: String, failure: ConnectFailure },
    /// No address of the proxy could be reached.
    #[error("cannot connect to the proxy {to}: {why}")]
    Proxy { to: String, why: String },
    /// The proxy was reached, and opened no tunnel.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// The server was reached, and the TLS handshake failed.
    #[error("the TLS handshake failed: {why}")]
    Tls { why: String, failure: ConnectFailure },
}

impl DialError {
    /// The kind of the failure.
    pub(super) fn failure(&self) -> ConnectFailure {
        match self {
            Self::Server { failure, .. } | Self::Tls { failure, .. } => *failure,
            Self::Proxy { .. } | Self::Tunnel(_) => ConnectFailure::Proxy,
        }
    }
}

/// Opens connections to one server.
pub(super) struct Dialer {
    tcp: HttpConnector,
    server: Uri,
    proxy: Option<Proxy>,
    tls: TlsClient,
    clock: Clock,
}

impl Dialer {
    /// For a server, which may be behind a proxy.
    pub(super) fn new(
        config: &config::Server,
        server: Uri,
        proxy: Option<Proxy>,
        clock: Clock,
    ) -> Result<Self, TlsError> {
        let is_https = server.scheme_str() == Some("https");
        let tls = TlsClient::new(config, is_https, proxy.as_ref().is_some_and(Proxy::needs_tls))?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_tcp_user_timeout(Some(config.stall_timeout.0));
        // The connector divides this time among the addresses.
        tcp.set_connect_timeout(Some(config.connect_timeout.0));
        Ok(Self { tcp, server, proxy, tls, clock })
    }

    /// Opens a connection to the server for a slot.
    pub(super) async fn open_connection(&self, slot: &Slot) -> Result<ClientStream, DialError> {
        slot.begin_connection();
        let stream = match &self.proxy {
            None => {
                let failed =
                    |(why, failure)| DialError::Server { to: host_and_port(&self.server), why, failure };
                ClientStream::Plain(self.connect_tcp(&self.server, slot).await.map_err(failed)?)
            }
            Some(proxy) => {
                let failed = |(why, _)| DialError::Proxy { to: host_and_port(proxy.uri()), why };
                let tcp = self.connect_tcp(proxy.uri(), slot).await.map_err(failed)?;
                proxy.open_tunnel(tcp, &host_and_port(&self.server), &self.tls).await?
            }
        };
        let encrypted = self.tls.encrypt_stream(stream, TlsPeer::Server, &self.server).await;
        encrypted.map_err(|error| DialError::Tls {
            why: explain_tls_error(&error),
            failure: classify_tls_error(&error),
        })
    }

    async fn connect_tcp(&self, to: &Uri, slot: &Slot) -> Result<TcpConnection, (String, ConnectFailure)> {
        let mut tcp = self.tcp.clone();
        poll_fn(|cx| tcp.poll_ready(cx)).await.map_err(|error| describe_tcp_error(&error))?;
        let stream = tcp.call(to.clone()).await.map_err(|error| describe_tcp_error(&error))?.into_inner();
        let tcp = TcpConnection::new(stream, self.clock, Rc::clone(slot.activity()))
            .map_err(|error| describe_tcp_error(&error))?;
        slot.set_connection(tcp.stats());
        Ok(tcp)
    }
}

/// For people, and by its kind.
fn describe_tcp_error(error: &(dyn Error + 'static)) -> (String, ConnectFailure) {
    let why = with_causes(error);
    let causes = successors(Some(error), |error| (*error).source());
    let system = causes.filter_map(|error| error.downcast_ref::<io::Error>()).last();
    let failure = match system.map(io::Error::kind) {
        // The connector reports the name service only in its text.
        _ if why.contains("dns error") => ConnectFailure::NameUnknown,
        Some(io::ErrorKind::ConnectionRefused) => ConnectFailure::Refused,
        Some(io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable) => ConnectFailure::NoRoute,
        Some(io::ErrorKind::TimedOut) => ConnectFailure::NoResponse,
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted) => ConnectFailure::Closed,
        _ => ConnectFailure::Other,
    };
    (why, failure)
}
