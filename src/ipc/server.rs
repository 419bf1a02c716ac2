//! Serves the local API on a Unix socket.
//!
//! The accept loop is our own, with a service for each connection: actix-web's server would wake
//! an idle device several times a second for its clock. So connections are limited, failures of
//! accept are survived, and the end is orderly, here.

use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use actix_http::HttpService;
use actix_service::{Service, ServiceFactory, map_config};
use actix_web::dev::AppConfig;
use actix_web::http::StatusCode;
use actix_web::{App, HttpResponse, Resource, web};
use bytes::Bytes;
use serde::Deserialize;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, watch};

use super::api::BatchList;
use super::auth::Peer;
use super::error::ApiError;
use super::feed::Feed;
use super::status::Board;
use super::{metrics, records, review};
use crate::actors::batch_planner::BatchPlanner;
use crate::actors::queue_store::QueueStore;
use crate::actors::telemetry::{RecentBatches, Report, Telemetry};

/// The pause after accept failed, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// Batches that one call lists, when it names no number.
const DEFAULT_BATCHES: usize = 50;

/// What every request may use.
#[derive(Clone)]
pub struct Shared {
    /// The status.
    pub board: Board,
    /// The feed of events.
    pub board_feed: Feed,
    /// Keeps records.
    pub store: Addr<QueueStore>,
    /// Sends them.
    pub planner: Addr<BatchPlanner>,
    /// Adds up.
    pub telemetry: Addr<Telemetry>,
    /// True when the daemon ends: streams end, too.
    pub shutdown: watch::Receiver<bool>,
}

impl Shared {
    pub(super) fn is_admin(&self, peer: Peer) -> bool {
        peer.is_admin(&self.board.config.borrow().ipc.admin_group)
    }

    pub(super) fn admin(&self, peer: Peer, otherwise: &str) -> Result<(), ApiError> {
        if self.is_admin(peer) { Ok(()) } else { Err(ApiError::not_permitted(otherwise)) }
    }
}

/// Serves until the shutdown is announced and the connections have ended. Dropping it ends them at once.
pub async fn serve(listener: UnixListener, shared: Shared, max_connections: usize) {
    let slots = Arc::new(Semaphore::new(max_connections));
    let mut shutdown = shared.shutdown.clone();
    loop {
        let slot = tokio::select! {
            slot = Arc::clone(&slots).acquire_owned() => slot,
            _ = shutdown.wait_for(|ends| *ends) => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|ends| *ends) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let shared = shared.clone();
                actix_rt::spawn(async move {
                    connection(stream, shared).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection on the socket could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // All slots are free when the last connection has ended.
    let all = u32::try_from(max_connections).unwrap_or(u32::MAX);
    drop(slots.acquire_many(all).await);
}

async fn connection(stream: UnixStream, shared: Shared) {
    let peer = stream.peer_cred().ok().map(|peer| Peer { uid: peer.uid(), gid: peer.gid() });
    let app = App::new().app_data(web::Data::new(shared)).configure(routes);
    let factory = HttpService::build()
        // A reader of events that has gone is noticed at once, not at the next event.
        .h1_allow_half_closed(false)
        .on_connect_ext(move |_: &UnixStream, extensions: &mut actix_http::Extensions| {
            if let Some(peer) = peer {
                extensions.insert(peer);
            }
        })
        .h1(map_config(app, |()| AppConfig::default()));
    let Ok(service) = factory.new_service(()).await else {
        return;
    };
    if let Err(error) = service.call((stream, None)).await {
        tracing::debug!(%error, "a connection on the socket broke off");
    }
}

fn routes(config: &mut web::ServiceConfig) {
    let resource =
        |path: &str| -> Resource { web::resource(path).default_service(web::to(method_not_allowed)) };
    config
        .service(resource("/v1/status").route(web::get().to(status)))
        .service(resource("/v1/events").route(web::get().to(events)))
        .service(
            resource("/v1/records")
                .route(web::post().to(records::enqueue))
                .route(web::get().to(records::list)),
        )
        .service(resource("/v1/records/{id}").route(web::get().to(records::show)))
        .service(resource("/v1/records/{id}/payload").route(web::put().to(review::mend)))
        .service(resource("/v1/manifest").route(web::get().to(records::manifest)))
        .service(resource("/v1/batches").route(web::get().to(batches)))
        .service(resource("/v1/sync").route(web::post().to(review::sync_now)))
        .service(resource("/v1/pause").route(web::post().to(review::pause)))
        .service(resource("/v1/resume").route(web::post().to(review::resume)))
        .service(resource("/v1/quarantine/retry").route(web::post().to(review::retry)))
        .service(resource("/v1/quarantine/discard").route(web::post().to(review::discard)))
        .service(resource("/v1/alerts/acknowledge").route(web::post().to(review::acknowledge)))
        .service(resource("/v1/telemetry").route(web::get().to(telemetry)))
        .service(resource("/metrics").route(web::get().to(open_metrics)))
        .default_service(web::to(not_found));
}

async fn not_found() -> Result<HttpResponse, ApiError> {
    let message = "there is nothing at this path; the API is described in README.md";
    std::future::ready(Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", message))).await
}

async fn method_not_allowed() -> Result<HttpResponse, ApiError> {
    let message = "this path does not take this method";
    std::future::ready(Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)))
        .await
}

async fn status(shared: web::Data<Shared>) -> HttpResponse {
    std::future::ready(HttpResponse::Ok().json(shared.board.status())).await
}

async fn telemetry(shared: web::Data<Shared>) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(shared.telemetry.send(Report).await?))
}

async fn open_metrics(shared: web::Data<Shared>) -> Result<HttpResponse, ApiError> {
    let backlog = shared.board.backlog.borrow().clone();
    let text = metrics::text(&shared.board.status(), &backlog).map_err(|error| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "metrics_failed", error.to_string())
    });
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    std::future::ready(text.map(|text| HttpResponse::Ok().content_type(content_type).body(text))).await
}

#[derive(Deserialize)]
struct BatchesQuery {
    limit: Option<usize>,
}

async fn batches(
    shared: web::Data<Shared>,
    query: Result<web::Query<BatchesQuery>, actix_web::Error>,
) -> Result<HttpResponse, ApiError> {
    let query = query.map_err(|error| ApiError::bad_request("invalid_query", error.to_string()))?;
    let limit = query.limit.unwrap_or(DEFAULT_BATCHES);
    let batches = shared.telemetry.send(RecentBatches(limit)).await?;
    Ok(HttpResponse::Ok().json(BatchList { batches }))
}

/// Server-Sent Events: the present status first, then what happens. A reader that lags is told of the gap.
async fn events(shared: web::Data<Shared>) -> HttpResponse {
    let mut heard = shared.board_feed.listen();
    let mut shutdown = shared.shutdown.clone();
    let present = serde_json::to_string(&shared.board.status()).unwrap_or_default();
    let first = Bytes::from(format!("event: status\ndata: {present}\n\n"));
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    actix_rt::spawn(async move {
        let mut next = first;
        loop {
            if sender.send(next).await.is_err() {
                return;
            }
            let heard = tokio::select! {
                heard = heard.recv() => heard,
                () = sender.closed() => return,
                _ = shutdown.wait_for(|ends| *ends) => return,
            };
            next = match heard {
                Ok(event) => {
                    format!("id: {}\nevent: {}\ndata: {}\n\n", event.id, event.event, event.data).into()
                }
                Err(RecvError::Lagged(missed)) => {
                    format!("event: gap\ndata: {{\"missed\":{missed}}}\n\n").into()
                }
                Err(RecvError::Closed) => return,
            };
        }
    });
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let chunk = receiver.recv().await?;
        Some((Ok::<_, ApiError>(chunk), receiver))
    });
    let response = HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("cache-control", "no-cache"))
        .streaming(stream);
    std::future::ready(response).await
}
