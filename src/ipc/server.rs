//! Serves the local API on a Unix socket.
//!
//! The accept loop is our own, with one service for all connections that there is only while there are any:
//! actix-web's server would wake an idle device several times a second for its clock. So connections are
//! limited, in all and by user, failures of accept are survived, and the end is orderly, here.

use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use actix_http::{Extensions, HttpService, KeepAlive};
use actix_service::{Service, ServiceFactory, map_config};
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::http::header::ContentType;
use actix_web::{App, HttpResponse, web};
use serde::Serialize;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use super::auth::{Peer, is_unlimited};
use super::body::Bodies;
use super::error::ApiError;
use super::events::Places;
use super::farewell::Farewells;
use super::half_close::HalfClosable;
use super::patience::{Answer, HEAD_WITHIN, Patient, Turn, take_turn};
use super::routes::routes;
use super::shares::Shares;
use super::status::Board;
use super::turns::Turns;
use crate::actors::batch_planner::BatchPlanner;
use crate::actors::queue_reader::{Look, QueueReader};
use crate::actors::queue_store::QueueStore;
use crate::actors::telemetry::Telemetry;
use crate::store::{StoreError, StoreView};
use crate::telemetry::audience::Audience;
use crate::telemetry::feed::Feed;

/// The pause after accept failed, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// A caller whose request was refused before all of it was read has so long to stop sending and read why.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// What every request may use.
#[derive(Clone)]
pub struct Shared {
    /// The status.
    pub board: Board,
    /// The feed of events.
    pub board_feed: Feed,
    /// Keeps records.
    pub store: Addr<QueueStore>,
    /// Looks at them.
    pub reader: Addr<QueueReader>,
    /// Sends them.
    pub planner: Addr<BatchPlanner>,
    /// Adds up.
    pub telemetry: Addr<Telemetry>,
    /// Of calls that are answered at once, on the main thread.
    pub turns: Arc<Turns>,
    /// Of looks at the queue.
    pub looks: Arc<Turns>,
    /// Of changes to many records at once.
    pub changes: Arc<Turns>,
    /// True when the daemon ends: streams end, too.
    pub shutdown: watch::Receiver<bool>,
}

impl Shared {
    /// Looks at the queue.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&StoreView) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let _turn = self.looks.take().await?;
        Ok(self.reader.send(Look::new(look)).await??)
    }

    /// Looks at the queue, for an answer in JSON: that is written on the reader's thread.
    pub(super) async fn answer_with<T: Serialize + 'static>(
        &self,
        look: impl FnOnce(&StoreView) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<HttpResponse, ApiError> {
        let json = self.look(|view| Ok(serde_json::to_vec(&look(view)?))).await?;
        let json = json.map_err(|error| ApiError::cannot_write(&error))?;
        Ok(HttpResponse::Ok().content_type(ContentType::json()).body(json))
    }

    /// What this caller may see.
    pub(super) fn audience(&self, peer: &Peer) -> Audience {
        Audience::new(peer.uid, self.is_admin(peer))
    }

    pub(super) fn is_admin(&self, peer: &Peer) -> bool {
        peer.is_admin(&self.board.config.borrow().ipc.admin_group)
    }

    pub(super) fn admin(&self, peer: &Peer, otherwise: &str) -> Result<(), ApiError> {
        if self.is_admin(peer) { Ok(()) } else { Err(ApiError::not_permitted(otherwise)) }
    }
}

/// Callers that come without end are turned away this many at a time: then all others have their turn. Fewer would let
/// them fill the kernel's queue, where those who are served have to wait behind them.
const MAX_TURNED_AWAY_PER_TURN: usize = 32;

/// The user of a caller of whom the kernel tells nothing: all of those are one.
const UNKNOWN_UID: u32 = u32::MAX;

/// Serves until the shutdown is announced and the connections have ended. Each is a task of its own: those that
/// are open when this is dropped go on until the runtime ends.
pub async fn serve(
    mut listeners: watch::Receiver<Arc<UnixListener>>,
    shared: Shared,
    max_connections: usize,
) {
    let connections = Shares::new(max_connections);
    let places = Places(Shares::new(shared.board.config.borrow().ipc.event_streams()));
    let bodies = Bodies::default();
    let farewells = Farewells::new().await;
    let mut shutdown = shared.shutdown.clone();
    let mut service = Weak::new();
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
        let uid = stream.peer_cred().map_or(UNKNOWN_UID, |peer| peer.uid());
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
        let stall = shared.board.config.borrow().ipc.stall_timeout.0;
        let http = match service.upgrade() {
            Some(http) => http,
            None => match http(shared.clone(), places.clone(), bodies.clone()).await {
                Ok(http) => {
                    let http = Rc::new(http);
                    service = Rc::downgrade(&http);
                    http
                }
                Err(()) => continue,
            },
        };
        actix_rt::spawn(async move {
            if let Err(error) = http.call((HalfClosable::new(Patient::new(stream, stall)), None)).await {
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

type Connection = (HalfClosable, Option<std::net::SocketAddr>);

/// What answers on every connection.
async fn http(
    shared: Shared,
    places: Places,
    bodies: Bodies,
) -> Result<impl Service<Connection, Response = (), Error = actix_http::error::DispatchError>, ()> {
    let shutdown = shared.shutdown.clone();
    let app = App::new()
        .app_data(web::Data::new(shared))
        .app_data(web::Data::new(places))
        .app_data(web::Data::new(bodies))
        .configure(routes)
        .wrap_fn(|request, service| {
            let turn = request.conn_data::<Turn>().cloned();
            let answering = service.call(request);
            async move {
                let ours = take_turn(turn).await;
                let answer: ServiceResponse = answering.await?;
                Ok(answer.map_body(|_, body| Answer::new(body, ours)))
            }
        });
    HttpService::build()
        .client_request_timeout(HEAD_WITHIN)
        .keep_alive(KeepAlive::Os)
        .client_disconnect_timeout(LINGER)
        .h1_allow_half_closed(true)
        // A connection that is kept for another request need not be waited for.
        .graceful_shutdown_signal(move || {
            let mut shutdown = shutdown.clone();
            async move { drop(shutdown.wait_for(|ends| *ends).await) }
        })
        .on_connect_ext(|connection: &HalfClosable, extensions: &mut Extensions| {
            extensions.insert(connection.turn());
            extensions.insert(connection.hunger());
            if let Some(peer) = Peer::of(connection.stream()) {
                extensions.insert(peer);
            }
        })
        .h1(map_config(app, |()| AppConfig::default()))
        .new_service(())
        .await
}
