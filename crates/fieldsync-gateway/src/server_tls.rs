//! The TLS configuration of the gateway's own server.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
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
    #[error("{} has a certificate that cannot be an authority of clients", path.display())]
    Authority {
        path: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error("the authorities of clients in {} cannot be used", path.display())]
    Authorities {
        path: PathBuf,
        #[source]
        source: VerifierBuilderError,
    },
}

/// What a client has to show: a certificate that one of the authorities in the file has signed, or nothing without a
/// file.
pub(crate) fn load_client_verifier(
    authorities: Option<&Path>,
) -> Result<Arc<dyn ClientCertVerifier>, ServerTlsError> {
    let Some(path) = authorities else {
        return Ok(Arc::new(NoClientAuth));
    };
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate).map_err(|source| ServerTlsError::Authority { path: path.into(), source })?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()))
        .build()
        .map_err(|source| ServerTlsError::Authorities { path: path.into(), source })
}

/// Reads the certificate chain and its key.
pub(crate) fn load_config(
    certificate: &Path,
    key: &Path,
    clients: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, ServerTlsError> {
    let chain = read_certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|source| ServerTlsError::File { path: key.into(), source })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_client_cert_verifier(clients).with_single_cert(chain, key))
        .map_err(|source| ServerTlsError::Pair { certificate: certificate.into(), source })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ServerTlsError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| ServerTlsError::File { path: path.into(), source })
}
