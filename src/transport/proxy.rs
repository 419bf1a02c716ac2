//! The way through an HTTP proxy: which one, and how it is asked to let a connection through.
//!
//! It is always asked by CONNECT, for `http` servers, too: so there is one way through a proxy and
//! not two, and a proxy never rewrites what the protocol says.

mod exemption;

use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use futures_util::future::join;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use hyper::{Request, StatusCode, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

use self::exemption::is_exempt_by_environment;
use super::connection::{Line, Tcp};
use super::credential;
use super::host::{host_and_port, host_without_brackets};
use super::tls::{TlsClient, TlsPeer, explain_tls_error};
use crate::config;

/// Largest head of an answer that a proxy may give.
const HEAD_BYTES: usize = 16 << 10;

/// Why the configured proxy cannot be used.
#[derive(Debug, Error)]
pub enum ProxyError {
    /// No proxy can have this address.
    #[error("server.proxy: {0:?} is no URL")]
    NoUrl(String),
    /// The environment names a proxy of another kind.
    #[error(
        "the environment names a {0} proxy, and only http and https proxies can be used: set server.proxy"
    )]
    Kind(String),
    /// Its password, which is in the address, has an `@`.
    #[error(
        "the address of the proxy holds more than one @: put the credential into server.proxy_credential_file, \
         or write %40 for an @ in it"
    )]
    Ambiguous,
    /// The file with the credential is not used.
    #[error("server.proxy_credential_file: {0}")]
    Refused(#[from] credential::Refusal),
    /// The file with the credential holds something else.
    #[error("server.proxy_credential_file: {} does not hold user:password", path.display())]
    NoCredential {
        /// The file.
        path: PathBuf,
    },
}

/// The proxy was reached, but there is no way through it.
#[derive(Debug, Error)]
pub(super) enum Refusal {
    /// It says so.
    #[error("the proxy {proxy} does not let the connection to {server} through: HTTP {status}")]
    Status { proxy: String, server: String, status: StatusCode },
    /// It said something else, or nothing.
    #[error("the proxy {proxy} cannot be used: {why}")]
    Broken { proxy: String, why: String },
}

/// A proxy, and what it asks for.
pub(super) struct Proxy {
    uri: Uri,
    /// The value of `Proxy-Authorization`.
    credential: Option<SecretString>,
}

impl Proxy {
    /// The proxy for a server; none when it is reached directly.
    pub(super) fn find(config: &config::Server, server: &Uri) -> Result<Option<Self>, ProxyError> {
        let Some(found) = choose(config, server)? else { return Ok(None) };
        let credential = match &config.proxy_credential_file {
            Some(path) => Some(read_credential(path)?),
            None => found.basic_auth().and_then(|value| value.to_str().ok()).map(SecretString::from),
        };
        Ok(Some(Self { uri: found.uri().clone(), credential }))
    }

    /// Where it is.
    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Whether it is spoken to over TLS.
    pub(super) fn needs_tls(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// Gets a connection to the proxy through to the server.
    pub(super) async fn pass(&self, tcp: Tcp, server: &str, tls: &TlsClient) -> Result<Line, Refusal> {
        let line = tls.secure(Line::Plain(tcp), TlsPeer::Proxy, &self.uri).await;
        let line = line.map_err(|error| self.fails(&explain_tls_error(&error)))?;
        let broken = |error: hyper::Error| self.fails(&explain_tls_error(&error));
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES)
            .handshake::<_, Empty<Bytes>>(TokioIo::new(line))
            .await
            .map_err(broken)?;
        let mut request = Request::connect(server).header(HOST, server);
        if let Some(credential) = &self.credential {
            let mut value = HeaderValue::from_str(credential.expose_secret())
                .map_err(|error| self.fails(&error.to_string()))?;
            value.set_sensitive(true);
            request = request.header(PROXY_AUTHORIZATION, value);
        }
        let request = request.body(Empty::new()).map_err(|error| self.fails(&error.to_string()))?;
        // Both ends are let go with the answer, so that nothing waits for a body or another request.
        let answer = async move { sender.send_request(request).await.map(|answer| answer.status()) };
        let (status, ended) = join(answer, connection.without_shutdown()).await;
        let status = status.map_err(broken)?;
        if !status.is_success() {
            return Err(Refusal::Status { proxy: self.name(), server: server.to_owned(), status });
        }
        let parts = ended.map_err(broken)?;
        // A server never speaks first.
        if parts.read_buf.is_empty() {
            Ok(parts.io.into_inner())
        } else {
            Err(self.fails("it sent more than its answer"))
        }
    }

    /// For people.
    fn name(&self) -> String {
        host_and_port(&self.uri)
    }

    fn fails(&self, why: &str) -> Refusal {
        Refusal::Broken { proxy: self.name(), why: why.to_owned() }
    }
}

/// The host that connections are made to: the server's, or its proxy's. None where there is no way.
pub fn first_hop(config: &config::Server) -> Option<String> {
    let server: Uri = config.url.parse().ok()?;
    let proxy = choose(config, &server).ok()?;
    let first = proxy.as_ref().map_or(&server, Intercept::uri);
    Some(host_without_brackets(first).to_owned()).filter(|host| !host.is_empty())
}

/// The proxy for a server, as it is configured, or as the environment says.
fn choose(config: &config::Server, server: &Uri) -> Result<Option<Intercept>, ProxyError> {
    let matcher = match config.proxy.as_str() {
        "none" => return Ok(None),
        "auto" if is_exempt_by_environment(server) => return Ok(None),
        "auto" => Matcher::from_env(),
        url => Matcher::builder().all(url).build(),
    };
    let Some(found) = matcher.intercept(server) else {
        let is_named = !matches!(config.proxy.as_str(), "auto");
        return if is_named { Err(ProxyError::NoUrl(config.proxy.clone())) } else { Ok(None) };
    };
    // What comes before an `@` was to be taken off. What is left of it is part of a secret.
    if found.uri().authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(ProxyError::Ambiguous);
    }
    match found.uri().scheme_str() {
        Some("http" | "https") => Ok(Some(found)),
        other => Err(ProxyError::Kind(other.unwrap_or_default().to_owned())),
    }
}

/// `user:password` as a value of `Proxy-Authorization` (RFC 7617).
fn read_credential(path: &Path) -> Result<SecretString, ProxyError> {
    let bytes = credential::secret(path)?;
    let no_credential = || ProxyError::NoCredential { path: path.to_owned() };
    let credential = std::str::from_utf8(bytes.trim_ascii()).map_err(|_| no_credential())?;
    if !credential.contains(':') {
        return Err(no_credential());
    }
    Ok(format!("Basic {}", BASE64_STANDARD.encode(credential)).into())
}
