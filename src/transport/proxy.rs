//! HTTP proxies: which one is used, and how it opens a tunnel to the server.
//!
//! CONNECT is used for `http` servers, too. So there is only one way to pass a proxy, and a proxy never
//! rewrites a request.

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
use super::connection::{ClientStream, TcpConnection};
use super::credential;
use super::host::{host_and_port, host_without_brackets};
use super::tls::{TlsClient, TlsPeer, explain_tls_error};
use crate::config;

/// Largest head of a proxy's response.
const RESPONSE_HEAD_BYTES_MAX: usize = 16 << 10;

/// Why the configured proxy cannot be used.
#[derive(Debug, Error)]
pub enum ProxyError {
    /// Not the address of a proxy.
    #[error("server.proxy: {0:?} is not a URL")]
    NotAUrl(String),
    /// The environment names a proxy of another kind.
    #[error(
        "the environment names a {0} proxy, and only http and https proxies can be used: set server.proxy"
    )]
    UnsupportedScheme(String),
    /// The address holds a password with an `@`.
    #[error(
        "the address of the proxy holds more than one @: put the credential into server.proxy_credential_file, \
         or write %40 for an @ in it"
    )]
    Ambiguous,
    /// The file with the credential cannot be used.
    #[error("server.proxy_credential_file: {0}")]
    CredentialFile(#[from] credential::SecretFileError),
    /// The file does not hold a credential.
    #[error("server.proxy_credential_file: {} does not hold user:password", path.display())]
    NoCredential {
        /// The file.
        path: PathBuf,
    },
}

/// The proxy was reached, and opened no tunnel.
#[derive(Debug, Error)]
pub(super) enum TunnelError {
    /// It refused by status.
    #[error("the proxy {proxy} does not let the connection to {server} through: HTTP {status}")]
    Status { proxy: String, server: String, status: StatusCode },
    /// Its response is not a valid one, or missing.
    #[error("the proxy {proxy} cannot be used: {why}")]
    Unusable { proxy: String, why: String },
}

/// A proxy, and the credential for it.
pub(super) struct Proxy {
    uri: Uri,
    /// The value of `Proxy-Authorization`.
    credential: Option<SecretString>,
}

impl Proxy {
    /// The proxy for a server; `None` if the server is reached directly.
    pub(super) fn for_server(config: &config::Server, server: &Uri) -> Result<Option<Self>, ProxyError> {
        let Some(found) = select_proxy(config, server)? else { return Ok(None) };
        let credential = match &config.proxy_credential_file {
            Some(path) => Some(read_credential(path)?),
            None => found.basic_auth().and_then(|value| value.to_str().ok()).map(SecretString::from),
        };
        Ok(Some(Self { uri: found.uri().clone(), credential }))
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Whether the connection to the proxy itself uses TLS.
    pub(super) fn needs_tls(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// Opens a tunnel to the server over a connection to the proxy.
    pub(super) async fn open_tunnel(
        &self,
        tcp: TcpConnection,
        server: &str,
        tls: &TlsClient,
    ) -> Result<ClientStream, TunnelError> {
        let stream = tls.encrypt_stream(ClientStream::Plain(tcp), TlsPeer::Proxy, &self.uri).await;
        let stream = stream.map_err(|error| self.unusable(&explain_tls_error(&error)))?;
        let http_error = |error: hyper::Error| self.unusable(&explain_tls_error(&error));
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(RESPONSE_HEAD_BYTES_MAX)
            .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
            .await
            .map_err(http_error)?;
        let mut request = Request::connect(server).header(HOST, server);
        if let Some(credential) = &self.credential {
            let mut value = HeaderValue::from_str(credential.expose_secret())
                .map_err(|error| self.unusable(&error.to_string()))?;
            value.set_sensitive(true);
            request = request.header(PROXY_AUTHORIZATION, value);
        }
        let request = request.body(Empty::new()).map_err(|error| self.unusable(&error.to_string()))?;
        // The response drops both halves, so that nothing waits for a body or another request.
        let response = async move { sender.send_request(request).await.map(|response| response.status()) };
        let (status, ended) = join(response, connection.without_shutdown()).await;
        let status = status.map_err(http_error)?;
        if !status.is_success() {
            return Err(TunnelError::Status { proxy: self.address(), server: server.to_owned(), status });
        }
        let parts = ended.map_err(http_error)?;
        // The server never sends first.
        if parts.read_buf.is_empty() {
            Ok(parts.io.into_inner())
        } else {
            Err(self.unusable("it sent more than its response"))
        }
    }

    /// For people.
    fn address(&self) -> String {
        host_and_port(&self.uri)
    }

    fn unusable(&self, why: &str) -> TunnelError {
        TunnelError::Unusable { proxy: self.address(), why: why.to_owned() }
    }
}

/// The host to connect to: the server's, or its proxy's. `None` if an address is invalid.
pub fn first_hop_host(config: &config::Server) -> Option<String> {
    let server: Uri = config.url.parse().ok()?;
    let proxy = select_proxy(config, &server).ok()?;
    let first = proxy.as_ref().map_or(&server, Intercept::uri);
    Some(host_without_brackets(first).to_owned()).filter(|host| !host.is_empty())
}

/// The proxy for a server, from the configuration or the environment.
fn select_proxy(config: &config::Server, server: &Uri) -> Result<Option<Intercept>, ProxyError> {
    let matcher = match config.proxy.as_str() {
        "none" => return Ok(None),
        "auto" if is_exempt_by_environment(server) => return Ok(None),
        "auto" => Matcher::from_env(),
        url => Matcher::builder().all(url).build(),
    };
    let Some(found) = matcher.intercept(server) else {
        let is_named = !matches!(config.proxy.as_str(), "auto");
        return if is_named { Err(ProxyError::NotAUrl(config.proxy.clone())) } else { Ok(None) };
    };
    // The matcher removes what precedes an `@`. A second `@` means that part of a secret is left.
    if found.uri().authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(ProxyError::Ambiguous);
    }
    match found.uri().scheme_str() {
        Some("http" | "https") => Ok(Some(found)),
        other => Err(ProxyError::UnsupportedScheme(other.unwrap_or_default().to_owned())),
    }
}

/// `user:password` as a value of `Proxy-Authorization` (RFC 7617).
fn read_credential(path: &Path) -> Result<SecretString, ProxyError> {
    let bytes = credential::read_secret_file(path)?;
    let no_credential = || ProxyError::NoCredential { path: path.to_owned() };
    let credential = std::str::from_utf8(bytes.trim_ascii()).map_err(|_| no_credential())?;
    if !credential.contains(':') {
        return Err(no_credential());
    }
    Ok(format!("Basic {}", BASE64_STANDARD.encode(credential)).into())
}
