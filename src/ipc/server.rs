//! Serves the local API on a Unix socket: accepts connections within limits, and stops in an orderly way.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use super::auth::{Peer, is_unlimited};
use super::body::BodyMemory;
use super::connection::{ConnectionOptions, serve_connection};
use super::rejection::ConnectionRejector;
use super::routes::{SocketApi, handle_request};
use super::shared_stream::SharedStream;
use super::state::ApiState;
use super::user_quotas::UserQuotas;

/// The pause after a failed accept. The usual cause is a lack of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_secs(1);

/// After this many rejected connections in a row, other tasks run. With fewer, a flood of connections would fill the
/// kernel's queue, where accepted users wait behind it.
const REJECTIONS_PER_YIELD: usize = 32;

/// Peers that the kernel does not identify count as one user.
const UNKNOWN_UID: u32 = u32::MAX;

/// Serves until the daemon stops and all connections have ended. Each connection is a task of its own, which outlives
/// this future if that is dropped.
pub async fn serve_api(
    mut listeners: watch::Receiver<Arc<UnixListener>>,
    state: ApiState,
    max_connections: usize,
) {
    let connections = UserQuotas::new(max_connections);
    let event_slots = UserQuotas::new(state.sources.config.borrow().ipc.event_streams());
    let rejector = ConnectionRejector::new();
    let mut shutdown = state.shutdown.clone();
    let api = Rc::new(SocketApi { state, body_memory: BodyMemory::default(), event_slots });
    let mut rejections = 0_usize;
    loop {
        let accepted = tokio::select! {
            accepted = accept_connection(&mut listeners) => accepted,
            _ = shutdown.wait_for(|is_stopping| *is_stopping) => break,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection on the socket");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                continue;
            }
        };
        let peer = Peer::from_stream(&stream);
        let uid = peer.as_ref().map_or(UNKNOWN_UID, |peer| peer.uid);
        let slot = if is_unlimited(uid) {
            // Until a connection ends, the kernel queues further ones.
            tokio::select! {
                slot = connections.acquire(uid, 1) => slot,
                _ = shutdown.wait_for(|is_stopping| *is_stopping) => break,
            }
        } else if let Some(slot) = connections.try_acquire(uid, 1) {
            slot
        } else {
            rejector.reject_connection(stream, uid);
            rejections = (rejections + 1) % REJECTIONS_PER_YIELD;
            if rejections == 0 {
                tokio::task::yield_now().await;
            }
            continue;
        };
        let stream = Rc::new(stream);
        let stall_timeout = api.state.sources.config.borrow().ipc.stall_timeout.0;
        let options = ConnectionOptions { stall_timeout, half_closable: Some(Rc::clone(&stream)) };
        let (api, mut shutdown) = (Rc::clone(&api), shutdown.clone());
        actix_rt::spawn(async move {
            let shutdown = async { drop(shutdown.wait_for(|is_stopping| *is_stopping).await) };
            let handle = |request| handle_request(&api, peer.as_ref(), request);
            if let Err(error) = serve_connection(SharedStream(stream), options, shutdown, handle).await {
                tracing::debug!(%error, "a connection on the socket ended early");
            }
            drop(slot);
        });
    }
    connections.wait_until_unused().await;
}

/// Accepts on the current listener, which the daemon may replace.
async fn accept_connection(listeners: &mut watch::Receiver<Arc<UnixListener>>) -> io::Result<UnixStream> {
    loop {
        let listener = Arc::clone(&listeners.borrow_and_update());
        tokio::select! {
            accepted = listener.accept() => return accepted.map(|(stream, _)| stream),
            Ok(()) = listeners.changed() => {}
        }
    }
}
