//! Serves the local API on a Unix socket.
//!
//! The accept loop is our own: it limits connections, in all and by user, survives failures of accept, and ends orderly.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use super::auth::{Peer, is_unlimited};
use super::body::Bodies;
use super::connection::{self, Options};
use super::farewell::Farewells;
use super::routes::{self, Api};
use super::shares::Shares;
use super::state::Shared;

/// The pause after accept failed, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Callers that come without end are turned away this many at a time: then all others have their turn. Fewer would let
/// them fill the kernel's queue, where those who are served have to wait behind them.
const MAX_TURNED_AWAY_PER_TURN: usize = 32;

/// Serves until the shutdown is announced and the connections have ended. Each is a task of its own: those that
/// are open when this is dropped go on until the runtime ends.
pub async fn serve(
    mut listeners: watch::Receiver<Arc<UnixListener>>,
    shared: Shared,
    max_connections: usize,
) {
    let connections = Shares::new(max_connections);
    let event_slots = Shares::new(shared.board.config.borrow().ipc.event_streams());
    let farewells = Farewells::new();
    let mut shutdown = shared.shutdown.clone();
    let api = Rc::new(Api { shared, bodies: Bodies::default(), event_slots });
    let mut turned_away = 0_usize;
    loop {
        let accepted = tokio::select! {
            accepted = accept(&mut listeners) => accepted,
            _ = shutdown.wait_for(|ends| *ends) => break,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection on the socket could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(peer) = Peer::of(&stream) else {
            tracing::debug!("a connection on the socket was dropped: the kernel does not tell who calls");
            continue;
        };
        let uid = peer.uid;
        let share = if is_unlimited(uid) {
            // There is room as soon as one of all the connections ends; the kernel keeps others until then.
            tokio::select! {
                share = connections.wait_and_take(uid, 1) => share,
                _ = shutdown.wait_for(|ends| *ends) => break,
            }
        } else if let Some(share) = connections.take(uid, 1) {
            share
        } else {
            farewells.turn_away(stream, uid);
            turned_away = (turned_away + 1) % MAX_TURNED_AWAY_PER_TURN;
            if turned_away == 0 {
                tokio::task::yield_now().await;
            }
            continue;
        };
        let half_closable = match duplicate(&stream) {
            Ok(duplicate) => Some(duplicate),
            Err(error) => {
                tracing::warn!(%error, "a connection on the socket was dropped");
                continue;
            }
        };
        let stall_timeout = api.shared.board.config.borrow().ipc.stall_timeout.0;
        let options = Options { stall_timeout, half_closable };
        let (api, mut shutdown) = (Rc::clone(&api), shutdown.clone());
        actix_rt::spawn(async move {
            let shutdown = async { drop(shutdown.wait_for(|ends| *ends).await) };
            let respond = |request| routes::respond(&api, &peer, request);
            if let Err(error) = connection::serve(stream, options, shutdown, respond).await {
                tracing::debug!(%error, "a connection on the socket broke off");
            }
            drop(share);
        });
    }
    connections.wait_until_released().await;
}

/// The next caller, on the listener that is there by then.
async fn accept(listeners: &mut watch::Receiver<Arc<UnixListener>>) -> io::Result<UnixStream> {
    loop {
        let listener = Arc::clone(&listeners.borrow_and_update());
        tokio::select! {
            accepted = listener.accept() => return accepted.map(|(stream, _)| stream),
            Ok(()) = listeners.changed() => {}
        }
    }
}

fn duplicate(stream: &UnixStream) -> io::Result<UnixStream> {
    UnixStream::from_std(stream.as_fd().try_clone_to_owned()?.into())
}
