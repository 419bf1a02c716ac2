//! Makes connections: finds the server or its proxy, tries every address, and gets through the proxy.

use std::future::poll_fn;
use std::net::UdpSocket;
use std::rc::Rc;

use hyper::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use thiserror::Error;
use tokio::sync::Notify;
use tower_service::Service;

use super::connection::{Line, Tcp};
use super::host::host_and_port;
use super::proxy::{Proxy, Refusal};
use super::tls::{TlsClient, TlsError, TlsPeer, explain_tls_error};
use super::transfer_trace::Newest;
use crate::causes::with_causes;
use crate::clock::Clock;
use crate::config;

/// Why there is no connection. Nothing was sent, and the records wait.
#[derive(Debug, Error)]
pub(super) enum DialError {
    /// Neither did any address of the server answer.
    #[error("cannot connect to {to}: {why}")]
    Server { to: String, why: String },
    /// Nor did any of the proxy.
    #[error("cannot connect to the proxy {to}: {why}")]
    Proxy { to: String, why: String },
    /// The proxy answered, but does not let the connection through.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The server answered, but there is no TLS with it.
    #[error("the TLS handshake failed: {0}")]
    Tls(String),
}

/// What makes connections to one server.
pub(super) struct Dialer {
    tcp: HttpConnector,
    server: Uri,
    proxy: Option<Proxy>,
    tls: TlsClient,
    clock: Clock,
    newest: Newest,
    stir: Rc<Notify>,
}

impl Dialer {
    /// For a server, perhaps behind a proxy.
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
        // It is divided among the addresses.
        tcp.set_connect_timeout(Some(config.connect_timeout.0));
        Ok(Self { tcp, server, proxy, tls, clock, newest: Newest::default(), stir: Rc::default() })
    }

    /// The connection that was made last.
    pub(super) fn newest(&self) -> &Newest {
        &self.newest
    }

    /// Whether the connection that was made last comes from an address that is no longer ours.
    pub(super) fn has_lost_its_address(&self) -> bool {
        let from = self.newest.borrow().as_ref().and_then(|meter| meter.from());
        from.is_some_and(|address| UdpSocket::bind((address, 0)).is_err())
    }

    /// What is notified when something goes out on a connection.
    pub(super) fn stir(&self) -> &Rc<Notify> {
        &self.stir
    }

    /// A connection to the server, with nothing on it yet.
    pub(super) async fn dial(&self) -> Result<Line, DialError> {
        self.newest.take();
        let line = match &self.proxy {
            None => {
                let failed = |why| DialError::Server { to: host_and_port(&self.server), why };
                Line::Plain(self.connect(&self.server).await.map_err(failed)?)
            }
            Some(proxy) => {
                let failed = |why| DialError::Proxy { to: host_and_port(proxy.uri()), why };
                let tcp = self.connect(proxy.uri()).await.map_err(failed)?;
                proxy.pass(tcp, &host_and_port(&self.server), &self.tls).await?
            }
        };
        let secured = self.tls.secure(line, TlsPeer::Server, &self.server).await;
        secured.map_err(|error| DialError::Tls(explain_tls_error(&error)))
    }

    async fn connect(&self, to: &Uri) -> Result<Tcp, String> {
        let mut tcp = self.tcp.clone();
        poll_fn(|cx| tcp.poll_ready(cx)).await.map_err(|error| with_causes(&error))?;
        let stream = tcp.call(to.clone()).await.map_err(|error| with_causes(&error))?.into_inner();
        let tcp = Tcp::new(stream, self.clock, Rc::clone(&self.stir)).map_err(|error| error.to_string())?;
        self.newest.replace(Some(tcp.meter()));
        Ok(tcp)
    }
}
