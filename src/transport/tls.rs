//! TLS to the server and its proxy: the trusted authorities, and the client certificate.

mod problem;

use std::cell::{Cell, RefCell};
use std::error::Error as StdError;
use std::io;
use std::iter::successors;
use std::path::Path;
use std::sync::Arc;

use hyper::Uri;
use rustls::client::WantsClientCert;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use thiserror::Error;
use tokio_rustls::TlsConnector;

use super::connection::ClientStream;
use super::credential;
use super::host::host_without_brackets;
use crate::config;

pub use problem::TlsProblem;
pub(super) use problem::{classify_tls_error, explain_tls_error};

/// Why TLS cannot be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A PEM file cannot be used.
    #[error("{key}: cannot read {path}: {reason}")]
    Pem {
        /// The configuration key.
        key: &'static str,
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The certificates are not valid for a TLS configuration.
    #[error("the TLS configuration cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

impl TlsError {
    fn pem(key: &'static str, path: &Path, reason: String) -> Self {
        Self::Pem { key, path: credential::show_secret_path(path), reason }
    }
}

/// The peer of a TLS connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsPeer {
    Server,
    Proxy,
}

/// Performs TLS handshakes. The settings, and with them the state for resuming TLS sessions, outlive
/// connections. After a certificate was rejected, the authorities are read again before the next handshake,
/// because new ones may have been installed.
pub(super) struct TlsClient {
    config: config::Server,
    settings: RefCell<TlsSettings>,
    has_rejected_certificate: Cell<bool>,
}

/// `None` for a peer without TLS.
struct TlsSettings {
    server: Option<Arc<ClientConfig>>,
    proxy: Option<Arc<ClientConfig>>,
}

impl TlsSettings {
    fn load(config: &config::Server, with_server: bool, with_proxy: bool) -> Result<Self, TlsError> {
        Ok(Self {
            server: with_server.then(|| server_client_config(config)).transpose()?.map(Arc::new),
            proxy: with_proxy.then(|| proxy_client_config(config)).transpose()?.map(Arc::new),
        })
    }
}

impl TlsClient {
    /// Reads the files that the configuration names.
    pub(super) fn new(
        config: &config::Server,
        with_server: bool,
        with_proxy: bool,
    ) -> Result<Self, TlsError> {
        Ok(Self {
            config: config.clone(),
            settings: RefCell::new(TlsSettings::load(config, with_server, with_proxy)?),
            has_rejected_certificate: Cell::new(false),
        })
    }

    /// Adds TLS with `peer` to a connection; returns it unchanged if the peer uses no TLS.
    pub(super) async fn encrypt_stream(
        &self,
        stream: ClientStream,
        peer: TlsPeer,
        uri: &Uri,
    ) -> io::Result<ClientStream> {
        self.reload_after_rejection();
        let settings = {
            let settings = self.settings.borrow();
            match peer {
                TlsPeer::Server => settings.server.clone(),
                TlsPeer::Proxy => settings.proxy.clone(),
            }
        };
        let Some(settings) = settings else { return Ok(stream) };
        let name = ServerName::try_from(host_without_brackets(uri).to_owned()).map_err(io::Error::other)?;
        let encrypted = TlsConnector::from(settings).connect(name, stream).await;
        if let Err(error) = &encrypted {
            tracing::debug!(%error, "the TLS handshake with {uri} failed");
            if matches!(find_rustls_error(error), Some(rustls::Error::InvalidCertificate(_))) {
                self.has_rejected_certificate.set(true);
            }
        }
        Ok(ClientStream::Tls(Box::new(encrypted?)))
    }

    fn reload_after_rejection(&self) {
        if !self.has_rejected_certificate.take() {
            return;
        }
        let (with_server, with_proxy) = {
            let settings = self.settings.borrow();
            (settings.server.is_some(), settings.proxy.is_some())
        };
        match TlsSettings::load(&self.config, with_server, with_proxy) {
            Ok(settings) => drop(self.settings.replace(settings)),
            Err(error) => {
                tracing::warn!(%error, "the certificates could not be read again: the previous ones stay in use");
            }
        }
    }
}

/// The rustls error among the causes of an error.
pub(super) fn find_rustls_error<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e rustls::Error> {
    let causes = successors(Some(error), |error: &&'e (dyn StdError + 'static)| (*error).source());
    let of_io = causes.filter_map(|error| error.downcast_ref::<io::Error>()?.get_ref());
    of_io.into_iter().find_map(|inner| inner.downcast_ref())
}

/// For the server, with the client certificate if there is one.
fn server_client_config(config: &config::Server) -> Result<ClientConfig, TlsError> {
    let builder = config_with_roots(config)?;
    let (Some(certificate), Some(key)) = (&config.client_cert_file, &config.client_key_file) else {
        return Ok(with_http1_only(builder.with_no_client_auth()));
    };
    let chain = read_certificates("server.client_cert_file", certificate)?;
    let pem_error = |reason: String| TlsError::pem("server.client_key_file", key, reason);
    let bytes = credential::read_secret_file(key).map_err(|error| pem_error(error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| pem_error(error.to_string()))?;
    Ok(with_http1_only(builder.with_client_auth_cert(chain, key)?))
}

/// For the proxy, without the client certificate: that is for the server alone.
fn proxy_client_config(config: &config::Server) -> Result<ClientConfig, TlsError> {
    Ok(with_http1_only(config_with_roots(config)?.with_no_client_auth()))
}

/// Trusts the system's authorities, or those in `server.ca_file`.
fn config_with_roots(
    config: &config::Server,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &config.ca_file {
        for certificate in read_certificates("server.ca_file", path)? {
            roots.add(certificate)?;
        }
    } else {
        let native = rustls_native_certs::load_native_certs();
        for error in native.errors {
            tracing::warn!(%error, "a system certificate could not be parsed");
        }
        roots.add_parsable_certificates(native.certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots))
}

/// Offers only HTTP/1.1: over HTTP/2, awc would keep reusing a silently dead connection.
fn with_http1_only(mut tls: ClientConfig) -> ClientConfig {
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    tls
}

fn read_certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem_error = |reason: String| TlsError::pem(key, path, reason);
    let bytes = credential::read_public_file(path).map_err(|error| pem_error(error.to_string()))?;
    parse_certificates(&bytes).map_err(pem_error)
}

fn parse_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())?;
    if certificates.is_empty() { Err("it holds no certificate".into()) } else { Ok(certificates) }
}

/// Says why the daemon could not use this text as `server.ca_file`.
pub fn check_authorities(pem: &[u8]) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for (n, certificate) in parse_certificates(pem)?.into_iter().enumerate() {
        roots
            .add(certificate)
            .map_err(|error| format!("its certificate number {} cannot be used: {error}", n + 1))?;
    }
    Ok(())
}
