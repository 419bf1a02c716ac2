//! The TLS configuration of the gateway's own server.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::ring;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoClientAuth, ResolvesServerCert, VerifierBuilderError, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem};
use x509_cert::Certificate;
use x509_cert::der::Decode;

use crate::causes::with_causes;

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
    #[error("TLS cannot be set up")]
    Versions(#[source] rustls::Error),
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

/// The certificate in use and its key, which a reload replaces. Open connections keep what they began with.
#[derive(Debug)]
pub(crate) struct ServerCertificate(RwLock<Arc<CertifiedKey>>);

impl ServerCertificate {
    /// Reads the certificate chain and its key.
    pub(crate) fn open(certificate: &Path, key: &Path) -> Result<Self, ServerTlsError> {
        Ok(Self(RwLock::new(read_certified_key(certificate, key)?)))
    }

    /// When the certificate expires, in seconds since 1970. `None` if it does not say.
    pub(crate) fn expires_at(&self) -> Option<u64> {
        let in_use = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let certificate = Certificate::from_der(in_use.cert.first()?).ok()?;
        Some(certificate.tbs_certificate.validity.not_after.to_unix_duration().as_secs())
    }

    /// Reads the files again, which may be others. Files with a mistake change nothing; returns whether they could be
    /// used.
    pub(crate) fn reload(&self, certificate: &Path, key: &Path) -> bool {
        match read_certified_key(certificate, key) {
            Ok(read) => {
                *self.0.write().unwrap_or_else(PoisonError::into_inner) = read;
                tracing::info!("the certificate was read again");
                true
            }
            Err(error) => {
                let error = with_causes(&error);
                tracing::error!(error, "the certificate cannot be used: the former one stays in use");
                false
            }
        }
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn read_certified_key(certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, ServerTlsError> {
    let chain = read_certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|source| ServerTlsError::File { path: key.into(), source })?;
    CertifiedKey::from_der(chain, key, &ring::default_provider())
        .map(Arc::new)
        .map_err(|source| ServerTlsError::Pair { certificate: certificate.into(), source })
}

/// A server with this certificate that asks clients for theirs as `clients` says.
pub(crate) fn build_config(
    certificate: Arc<ServerCertificate>,
    clients: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, ServerTlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(ServerTlsError::Versions)?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ServerTlsError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| ServerTlsError::File { path: path.into(), source })
}
