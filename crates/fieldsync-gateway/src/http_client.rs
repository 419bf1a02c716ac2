//! HTTP where the gateway is the client: of the server that it forwards records to, and of a destination.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use actix_web::web::Bytes;
use http_body_util::Full;
use hyper::Uri;
use hyper::header::HeaderValue;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::RootCertStore;

use super::client_tls;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client for http and https that keeps connections.
pub(crate) type HttpsClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A client that trusts the authorities of the system.
pub(crate) fn build_https_client() -> Result<HttpsClient, rustls::Error> {
    let connector = build_https_connector(client_tls::load_system_roots())?;
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

/// Connects with http or https, and trusts `roots`.
pub(crate) fn build_https_connector(
    roots: RootCertStore,
) -> Result<HttpsConnector<HttpConnector>, rustls::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_nodelay(true);
    Ok(HttpsConnectorBuilder::new()
        .with_tls_config(client_tls::config_with_roots(roots)?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp))
}

/// An http or https URL without user and password: logs and the process list would show them.
pub(crate) fn parse_http_url(url: &str) -> Option<Uri> {
    let uri: Uri = url.parse().ok()?;
    let authority = uri.authority()?;
    let has_no_user = !authority.as_str().contains('@');
    // A port beyond 65535 would count as none, and 80 or 443 would be used instead.
    let has_usable_port =
        authority.as_str() == authority.host() || authority.port_u16().is_some_and(|port| port > 0);
    (matches!(uri.scheme_str(), Some("http" | "https")) && has_no_user && has_usable_port).then_some(uri)
}

/// The secret in a file, without white space around it. `None` if there is none.
pub(crate) fn read_secret(path: &Path) -> io::Result<Option<String>> {
    let text = fs::read_to_string(path)?;
    Ok(Some(text.trim().to_owned()).filter(|secret| !secret.is_empty()))
}

/// The value of an `Authorization` header, which no log shows.
pub(crate) fn authorization_value(scheme: &str, token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("{scheme} {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_no_user_and_a_port_that_exists() {
        for url in ["http://host", "https://host/", "http://host:1/path?query", "https://[::1]:65535"] {
            assert!(parse_http_url(url).is_some(), "{url}");
        }
        for url in ["ftp://host", "host", "http://user:password@host", "http://host:99999", "http://host:0"] {
            assert!(parse_http_url(url).is_none(), "{url}");
        }
    }
}
