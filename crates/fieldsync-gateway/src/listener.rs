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
use actix_web::middleware::from_fn;
use actix_web::rt::net::TcpStream;
use actix_web::{App, HttpServer};
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::socket::{Backlog, listen};
use rustls::ServerConfig;

use super::client_certificate::CertificateScope;
use super::metrics::OpenConnection;
use super::routes::{GatewayState, common_headers, count_request, register_routes};

/// How long requests in flight may take once the gateway is ending.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Threads that take requests.
const WORKER_THREADS: usize = 2;
/// File descriptors for each connection: its own, and a share of those for the ledger and the destination.
const DESCRIPTORS_PER_CONNECTION: rlim_t = 2;
/// Threads of each worker that decode and validate bodies.
const VALIDATION_THREADS: usize = 2;
/// Longer than clients keep an idle connection, so that the server never closes one while a request
/// is on its way.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(75);
/// For the head of a request, and for the TLS handshake before it.
const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// How a handshake ends if the client closes the connection.
const CLOSED_BY_CLIENT: [io::ErrorKind; 3] =
    [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];

/// Makes room for so many connections. Without it, fewer are accepted.
pub(super) fn prepare_for_connections(listener: &TcpListener, connections_max: usize) {
    let connections = rlim_t::try_from(connections_max).unwrap_or(rlim_t::MAX);
    let wanted = connections.saturating_mul(DESCRIPTORS_PER_CONNECTION);
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft >= wanted.min(hard) {
            Ok(())
        } else {
            setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard)
        }
    });
    let enlarged = listen(listener, Backlog::MAXALLOWABLE);
    if let Err(error) = raised.and(enlarged) {
        tracing::warn!(%error, "the limits of the system for connections cannot be raised");
    }
}

/// How many each worker accepts.
fn connections_per_worker(state: &GatewayState) -> usize {
    state.connections.places().div_ceil(WORKER_THREADS)
}

/// Starts a server without TLS.
pub(super) fn start_plain_server(
    listener: TcpListener,
    state: Arc<GatewayState>,
    path: String,
) -> io::Result<Server> {
    let connections_max = connections_per_worker(&state);
    let (metrics, places) = (Arc::clone(&state.metrics), Arc::clone(&state.connections));
    let server = HttpServer::new(move || {
        App::new()
            .wrap(common_headers())
            .wrap(from_fn(count_request))
            .configure(|config| register_routes(config, &state, &path))
    })
    .on_connect(move |_, connection| {
        connection.insert(OpenConnection::new(Arc::clone(&metrics)));
        connection.insert(places.take_place());
    })
    .workers(WORKER_THREADS)
    .worker_max_blocking_threads(VALIDATION_THREADS)
    .max_connections(connections_max)
    .keep_alive(KEEP_ALIVE_TIMEOUT)
    .client_request_timeout(REQUEST_HEAD_TIMEOUT)
    .shutdown_timeout(DRAIN_TIMEOUT.as_secs())
    .disable_signals()
    .listen(listener)?;
    Ok(server.run())
}

/// Starts a server with TLS.
pub(super) fn start_tls_server(
    listener: TcpListener,
    config: ServerConfig,
    state: Arc<GatewayState>,
    path: String,
) -> io::Result<Server> {
    let server = Server::build()
        .workers(WORKER_THREADS)
        .worker_max_blocking_threads(VALIDATION_THREADS)
        .max_concurrent_connections(connections_per_worker(&state))
        .shutdown_timeout(DRAIN_TIMEOUT.as_secs())
        .disable_signals()
        .listen("gateway", listener, move || {
            let app = App::new()
                .wrap(common_headers())
                .wrap(from_fn(count_request))
                .configure(|config| register_routes(config, &state, &path));
            let (opened, failed) = (Arc::clone(&state.metrics), Arc::clone(&state.metrics));
            let places = Arc::clone(&state.connections);
            let http = HttpService::build()
                .keep_alive(KEEP_ALIVE_TIMEOUT)
                .client_request_timeout(REQUEST_HEAD_TIMEOUT)
                .on_connect_ext(move |stream: &TlsStream<TcpStream>, connection| {
                    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                    if let Some(certificate) = shown {
                        connection.insert(CertificateScope::of(certificate));
                    }
                    connection.insert(OpenConnection::new(Arc::clone(&opened)));
                    connection.insert(places.take_place());
                })
                .h1(map_config(app.into_factory(), |()| AppConfig::default()));
            let mut acceptor = Acceptor::new(config.clone());
            acceptor.set_handshake_timeout(REQUEST_HEAD_TIMEOUT);
            acceptor
                .map_err(move |error| {
                    if !is_closed_by_client(&error) {
                        failed.http.count_tls_failure();
                    }
                    AcceptError::into_service_error(error)
                })
                .map(|stream: TlsStream<TcpStream>| {
                    let peer: Option<SocketAddr> = stream.get_ref().0.peer_addr().ok();
                    (stream, peer)
                })
                .and_then(http.map_err(AcceptError::Service))
        })?;
    Ok(server.run())
}

/// Whether the client closed the connection during the handshake without a TLS alert, as health checks of load balancers
/// do all the time.
fn is_closed_by_client<E>(error: &AcceptError<io::Error, E>) -> bool {
    matches!(error, AcceptError::Tls(error) if CLOSED_BY_CLIENT.contains(&error.kind()))
}
