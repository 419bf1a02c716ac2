//! What the server is recognized by over TLS, and how this device shows who it is.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

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

/// The system's authorities or those of `server.ca_file`, and the client certificate where there is one.
/// HTTP/1.1 alone is offered: over HTTP/2, awc would use a silently dead connection again and again.
pub(super) fn client_config(config: &config::Server) -> Result<ClientConfig, TlsError> {
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
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut tls = match (&config.client_cert_file, &config.client_key_file) {
        (Some(certificate), Some(key)) => {
            let chain = certificates("server.client_cert_file", certificate)?;
            let key_error = |error: rustls_pki_types::pem::Error| TlsError::Pem {
                key: "server.client_key_file",
                path: key.display().to_string(),
                reason: error.to_string(),
            };
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).map_err(key_error)?)?
        }
        _ => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |reason: String| TlsError::Pem { key, path: path.display().to_string(), reason };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(error.to_string()))?;
    if certificates.is_empty() { Err(wrong("it holds no certificate".into())) } else { Ok(certificates) }
}
