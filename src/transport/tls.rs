//! What the server is recognized by over TLS, and how this device shows who it is.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use super::credential;
use crate::config;

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

/// For the server: with the client certificate, where there is one.
pub(super) fn for_server(config: &config::Server) -> Result<ClientConfig, TlsError> {
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
pub(super) fn for_proxy(config: &config::Server) -> Result<ClientConfig, TlsError> {
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
