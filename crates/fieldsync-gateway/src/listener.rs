//! The servers that take requests: plain HTTP and TLS, within the same limits.
//!
//! Over TLS only HTTP/1.1 is served. The server library would offer HTTP/2 as soon as any crate of
//! the build turns it on. Devices send one batch at a time and gain nothing from it, and its code
//! would be exposed to the network. So the TLS service is assembled here from the HTTP/1.1 parts.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_http::HttpService;
use actix_service::{IntoServiceFactory, ServiceFactoryExt, map_config};
use actix_tls::accept::TlsError as AcceptError;
use actix_tls::accept::rustls_0_23::{Acceptor, TlsStream};
use actix_web::dev::{AppConfig, Server};
use actix_web::rt::net::TcpStream;
use actix_web::{App, HttpServer};
use rustls::ServerConfig;

use super::routes::{Service, common_headers, routes};

/// How long requests in flight may take to finish once the end has come.
pub(super) const DRAIN: Duration = Duration::from_secs(5);
/// Threads that take requests.
const WORKERS: usize = 2;
/// Connections that a worker has open at a time.
const CONNECTIONS_PER_WORKER: usize = 512;
/// Threads of each worker that decode and check bodies.
const CHECK_THREADS: usize = 2;
/// Longer than clients keep an idle connection, so that it is never the server that ends one just
/// as a request comes.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// A request's head, and the handshake before it, take no longer than this.
const HEAD_LIMIT: Duration = Duration::from_secs(15);

/// A server without TLS.
pub(super) fn plain_server(listener: TcpListener, service: Arc<Service>, path: String) -> io::Result<Server> {
    let server = HttpServer::new(move || {
        App::new().wrap(common_headers()).configure(|config| routes(config, &service, &path))
    })
    .workers(WORKERS)
    .worker_max_blocking_threads(CHECK_THREADS)
    .max_connections(CONNECTIONS_PER_WORKER)
    .keep_alive(KEEP_ALIVE)
    .client_request_timeout(HEAD_LIMIT)
    .shutdown_timeout(DRAIN.as_secs())
    .disable_signals()
    .listen(listener)?;
    Ok(server.run())
}

/// A server over TLS.
pub(super) fn tls_server(
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
