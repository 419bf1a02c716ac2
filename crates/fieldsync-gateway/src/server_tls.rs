//! The TLS configuration of the gateway's own server.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem};

/// Why the TLS configuration cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerTlsError {
    #[error("cannot read the TLS file {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: pem::Error,
    },
    #[error("the certificate {} and its key cannot be used", certificate.display())]
    Pair {
        certificate: PathBuf,
        #[source]
        source: rustls::Error,
    },
}

/// Reads the certificate chain and its key.
pub(crate) fn load_config(certificate: &Path, key: &Path) -> Result<ServerConfig, ServerTlsError> {
    let file_error = |path: &Path| {
        let path = path.to_path_buf();
        |source| ServerTlsError::File { path, source }
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(file_error(certificate))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(file_error(key))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|source| ServerTlsError::Pair { certificate: certificate.into(), source })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
