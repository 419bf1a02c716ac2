//! TLS to the server and to its proxy: what they are recognized by, and how this device shows who it is.

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

use super::connection::Line;
use super::credential;
use super::host::host_without_brackets;
use crate::config;

pub use problem::TlsProblem;
pub(super) use problem::explain_tls_error;

/// Why there is no TLS.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A PEM file does not read.
    #[error("{key}: cannot read {path}: {reason}")]
    Pem {
        /// The configuration key.
        key: &'static str,
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The certificates do not make a TLS configuration.
    #[error("the TLS configuration cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

impl TlsError {
    fn pem(key: &'static str, path: &Path, reason: String) -> Self {
        Self::Pem { key, path: path.display().to_string(), reason }
    }
}

/// Who is on the other side of a TLS connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsPeer {
    Server,
    Proxy,
}

/// Makes connections TLS connections. The settings stay when connections end, and with them what
/// resumes TLS sessions, until a certificate is refused: then the authorities are read again before
/// the next handshake, because the system may have been given new ones.
pub(super) struct TlsClient {
    config: config::Server,
    settings: RefCell<TlsSettings>,
    has_refused_certificate: Cell<bool>,
}

/// None where no TLS is spoken.
struct TlsSettings {
    server: Option<Arc<ClientConfig>>,
    proxy: Option<Arc<ClientConfig>>,
}

impl TlsSettings {
    fn load(config: &config::Server, with_server: bool, with_proxy: bool) -> Result<Self, TlsError> {
        Ok(Self {
            server: with_server.then(|| for_server(config)).transpose()?.map(Arc::new),
            proxy: with_proxy.then(|| for_proxy(config)).transpose()?.map(Arc::new),
        })
    }
}

impl TlsClient {
    /// With the files of the configuration as they are now.
    pub(super) fn new(
        config: &config::Server,
        with_server: bool,
        with_proxy: bool,
    ) -> Result<Self, TlsError> {
        Ok(Self {
            config: config.clone(),
            settings: RefCell::new(TlsSettings::load(config, with_server, with_proxy)?),
            has_refused_certificate: Cell::new(false),
        })
    }

    /// A connection over which TLS is spoken with `peer`; the same one where it speaks none.
    pub(super) async fn secure(&self, line: Line, peer: TlsPeer, at: &Uri) -> io::Result<Line> {
        self.reload_after_refusal();
        let settings = {
            let settings = self.settings.borrow();
            match peer {
                TlsPeer::Server => settings.server.clone(),
                TlsPeer::Proxy => settings.proxy.clone(),
            }
        };
        let Some(settings) = settings else { return Ok(line) };
        let name = ServerName::try_from(host_without_brackets(at).to_owned()).map_err(io::Error::other)?;
        let secured = TlsConnector::from(settings).connect(name, line).await;
        if let Err(error) = &secured {
            tracing::debug!(%error, "no TLS with {at}");
            if matches!(rustls_error(error), Some(rustls::Error::InvalidCertificate(_))) {
                self.has_refused_certificate.set(true);
            }
        }
        Ok(Line::OverTls(Box::new(secured?)))
    }

    fn reload_after_refusal(&self) {
        if !self.has_refused_certificate.take() {
            return;
        }
        let (with_server, with_proxy) = {
            let settings = self.settings.borrow();
            (settings.server.is_some(), settings.proxy.is_some())
        };
        match TlsSettings::load(&self.config, with_server, with_proxy) {
            Ok(settings) => drop(self.settings.replace(settings)),
            Err(error) => tracing::warn!(%error, "the certificates are used as they were read before"),
        }
    }
}

/// The error of rustls among the causes of an error.
pub(super) fn rustls_error<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e rustls::Error> {
    let causes = successors(Some(error), |error: &&'e (dyn StdError + 'static)| (*error).source());
    let of_io = causes.filter_map(|error| error.downcast_ref::<io::Error>()?.get_ref());
    of_io.into_iter().find_map(|inner| inner.downcast_ref())
}

/// For the server: with the client certificate, where there is one.
fn for_server(config: &config::Server) -> Result<ClientConfig, TlsError> {
    let builder = trusting(config)?;
    let (Some(certificate), Some(key)) = (&config.client_cert_file, &config.client_key_file) else {
        return Ok(speaking_http_1(builder.with_no_client_auth()));
    };
    let chain = certificates("server.client_cert_file", certificate)?;
    let wrong = |reason: String| TlsError::pem("server.client_key_file", key, reason);
    let bytes = credential::secret(key).map_err(|refusal| wrong(refusal.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    Ok(speaking_http_1(builder.with_client_auth_cert(chain, key)?))
}

/// For the proxy, which is not shown who the device is to the server.
fn for_proxy(config: &config::Server) -> Result<ClientConfig, TlsError> {
    Ok(speaking_http_1(trusting(config)?.with_no_client_auth()))
}

/// Trusts the system's authorities or those of `server.ca_file`.
fn trusting(config: &config::Server) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &config.ca_file {
        for certificate in certificates("server.ca_file", path)? {
            roots.add(certificate)?;
        }
    } else {
        let native = rustls_native_certs::load_native_certs();
        for error in native.errors {
            tracing::warn!(%error, "a system certificate does not read");
        }
        roots.add_parsable_certificates(native.certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots))
}

/// HTTP/1.1 alone is offered: over HTTP/2, awc would use a silently dead connection again and again.
fn speaking_http_1(mut tls: ClientConfig) -> ClientConfig {
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    tls
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |reason: String| TlsError::pem(key, path, reason);
    let bytes = credential::plain(path).map_err(|error| wrong(error.to_string()))?;
    let certificates = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(error.to_string()))?;
    if certificates.is_empty() { Err(wrong("it holds no certificate".into())) } else { Ok(certificates) }
}
