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
use super::journey::Newest;
use super::proxy::{Proxy, Refusal};
use super::tls::{TlsClient, TlsError, TlsPeer, explain_tls_error};
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

/// `host:port`, with the port even where it is the scheme's own.
pub(super) fn host_and_port(uri: &Uri) -> String {
    format!("{}:{}", uri.host().unwrap_or_default(), port_or_default(uri))
}

/// The value of `Host` (RFC 9110 §7.2), without a port that is the scheme's own.
pub(super) fn host_header(uri: &Uri) -> String {
    let is_own = uri.port_u16().is_none_or(|port| port == default_port(uri));
    if is_own { uri.host().unwrap_or_default().to_owned() } else { host_and_port(uri) }
}

/// As resolvers and TLS take it: an IPv6 address without its brackets.
pub(super) fn host_without_brackets(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_matches(['[', ']'])
}

/// The port that connections are made to.
pub(super) fn port_or_default(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(default_port(uri))
}

fn default_port(uri: &Uri) -> u16 {
    if uri.scheme_str() == Some("https") { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_in_the_header_unless_it_is_the_schemes_own() {
        for (url, expected) in [
            ("http://crm.example", "crm.example"),
            ("http://crm.example:80", "crm.example"),
            ("http://crm.example:443", "crm.example:443"),
            ("https://crm.example:443/base", "crm.example"),
            ("https://crm.example:80", "crm.example:80"),
            ("https://10.1.2.3:8443", "10.1.2.3:8443"),
            ("https://[fe80::1]", "[fe80::1]"),
            ("https://[fe80::1]:8443", "[fe80::1]:8443"),
        ] {
            assert_eq!(host_header(&url.parse().unwrap()), expected, "{url}");
        }
    }
}
