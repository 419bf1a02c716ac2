//! Serving over TLS, HTTP/1.1 only.
//!
//! The server library would offer HTTP/2 as soon as any crate of the build turns it on. It brings
//! nothing to devices that send one batch at a time, and its code would be open to the network:
//! so the service is put together here, from the parts that speak HTTP/1.1.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use actix_http::HttpService;
use actix_service::{IntoServiceFactory, ServiceFactoryExt, map_config};
use actix_tls::accept::TlsError as AcceptError;
use actix_tls::accept::rustls_0_23::{Acceptor, TlsStream};
use actix_web::App;
use actix_web::dev::{AppConfig, Server};
use actix_web::rt::net::TcpStream;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem};

use super::serve::{CHECK_THREADS, CONNECTIONS_PER_WORKER, DRAIN, HEAD_LIMIT, KEEP_ALIVE, WORKERS};
use super::service::{Service, common_headers, routes};

/// Why there can be no TLS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
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
pub(crate) fn load(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        |source| TlsError::File { path, source }
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(failed(certificate))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(failed(key))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|source| TlsError::Pair { certificate: certificate.into(), source })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// A server as the one without TLS, within the same limits.
pub(crate) fn server(
    listener: TcpListener,
    config: ServerConfig,
    service: Arc<Service>,
    path: String,
) -> io::Result<Server> {
    let server = Server::build()
        .workers(WORKERS)
        .worker_max_blocking_threads(CHECK_THREADS)
        .max_concurrent_connections(CONNECTIONS_PER_WORKER)
        .shutdown_timeout(DRAIN.as_secs())
        .disable_signals()
        .listen("gateway", listener, move || {
            let app = App::new().wrap(common_headers()).configure(|config| routes(config, &service, &path));
            let http = HttpService::build()
                .keep_alive(KEEP_ALIVE)
                .client_request_timeout(HEAD_LIMIT)
                .h1(map_config(app.into_factory(), |()| AppConfig::default()));
            let mut acceptor = Acceptor::new(config.clone());
            acceptor.set_handshake_timeout(HEAD_LIMIT);
            acceptor
                .map_err(AcceptError::into_service_error)
                .map(|stream: TlsStream<TcpStream>| {
                    let peer: Option<SocketAddr> = stream.get_ref().0.peer_addr().ok();
                    (stream, peer)
                })
                .and_then(http.map_err(AcceptError::Service))
        })?;
    Ok(server.run())
}
