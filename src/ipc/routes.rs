//! Which call goes where, and the calls that only look.

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::{HttpResponse, Resource, ResponseError, web};
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::Peer;
use super::error::ApiError;
use super::server::Shared;
use super::{events, metrics, openapi, records, review};
use crate::actors::telemetry::{RecentBatches, Report};
use crate::api::{BatchList, Status, TelemetryReport};

/// Batches that one call lists, when it names no number.
const DEFAULT_BATCHES: usize = 50;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(at("/v1/status", "GET").route(web::get().to(status)))
        .service(at("/v1/events", "GET").route(web::get().to(events::events)))
        .service(
            at("/v1/records", "GET, POST")
                .route(web::post().to(records::enqueue))
                .route(web::get().to(records::list)),
        )
        .service(at("/v1/records/{id}", "GET").route(web::get().to(records::show)))
        .service(at("/v1/records/{id}/payload", "PUT").route(web::put().to(review::mend)))
        .service(at("/v1/manifest", "GET").route(web::get().to(records::manifest)))
        .service(at("/v1/batches", "GET").route(web::get().to(batches)))
        .service(at("/v1/sync", "POST").route(web::post().to(review::sync_now)))
        .service(at("/v1/pause", "POST").route(web::post().to(review::pause)))
        .service(at("/v1/resume", "POST").route(web::post().to(review::resume)))
        .service(at("/v1/quarantine/add", "POST").route(web::post().to(review::add)))
        .service(at("/v1/quarantine/retry", "POST").route(web::post().to(review::retry)))
        .service(at("/v1/quarantine/discard", "POST").route(web::post().to(review::discard)))
        .service(at("/v1/alerts/acknowledge", "POST").route(web::post().to(review::acknowledge)))
        .service(at("/v1/telemetry", "GET").route(web::get().to(telemetry)))
        .service(at("/v1/openapi.json", "GET").route(web::get().to(openapi::openapi)))
        .service(at("/metrics", "GET").route(web::get().to(open_metrics)))
        .default_service(web::to(not_found));
}

/// A path, and the methods that it takes.
fn at(path: &str, methods: &'static str) -> Resource {
    web::resource(path).default_service(web::to(move || method_not_allowed(methods)))
}

async fn not_found() -> Result<HttpResponse, ApiError> {
    let message = "there is nothing at this path; GET /v1/openapi.json describes what there is";
    std::future::ready(Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", message))).await
}

async fn method_not_allowed(methods: &'static str) -> HttpResponse {
    let message = format!("this path takes {methods}; GET /v1/openapi.json describes it");
    let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
    let mut response = error.error_response();
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    std::future::ready(response).await
}

/// The status
///
/// Everything at a glance, put together without asking anybody; `caller` is about the user who asks. What the server said of
/// a whole request may quote any record in it: those messages are for admins.
#[utoipa::path(
    get, path = "/v1/status", tag = "status",
    responses((status = 200, description = "The status.", body = Status)),
)]
pub(super) async fn status(shared: web::Data<Shared>, peer: Peer) -> Result<HttpResponse, ApiError> {
    let _turn = shared.turns.take().await?;
    Ok(HttpResponse::Ok().json(shared.board.status_for(shared.audience(&peer))))
}

/// What was measured
///
/// How long records take, how batches of each size fare, which types cause delays, and what the network was like at failures; over
/// `telemetry.window`, and day by day. It survives a restart.
#[utoipa::path(
    get, path = "/v1/telemetry", tag = "status",
    responses((status = 200, description = "The report.", body = TelemetryReport)),
)]
pub(super) async fn telemetry(shared: web::Data<Shared>) -> Result<HttpResponse, ApiError> {
    let _turn = shared.turns.take().await?;
    Ok(HttpResponse::Ok().json(shared.telemetry.send(Report).await?))
}

/// Metrics
///
/// For Prometheus and others that read OpenMetrics.
#[utoipa::path(
    get, path = "/metrics", tag = "status",
    responses((status = 200, description = "The exposition.", body = String,
        content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8")),
)]
pub(super) async fn open_metrics(shared: web::Data<Shared>) -> Result<HttpResponse, ApiError> {
    let _turn = shared.turns.take().await?;
    let backlog = shared.board.backlog.borrow().clone();
    let text = metrics::text(&shared.board.status(), &backlog).map_err(|error| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "metrics_failed", error.to_string())
    });
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    text.map(|text| HttpResponse::Ok().content_type(content_type).body(text))
}

/// What `GET /v1/batches` takes.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct BatchesQuery {
    /// At most so many.
    #[param(default = 50)]
    pub(super) limit: Option<usize>,
}

/// Recent batches
///
/// The latest sends, the newest first, with what became of each and why it had its size. 500 are kept.
#[utoipa::path(
    get, path = "/v1/batches", tag = "status", params(BatchesQuery),
    responses((status = 200, description = "The sends.", body = BatchList)),
)]
pub(super) async fn batches(
    shared: web::Data<Shared>,
    query: Result<web::Query<BatchesQuery>, actix_web::Error>,
) -> Result<HttpResponse, ApiError> {
    let query = query.map_err(|error| ApiError::bad_request("invalid_query", error.to_string()))?;
    let limit = query.limit.unwrap_or(DEFAULT_BATCHES);
    let _turn = shared.turns.take().await?;
    let batches = shared.telemetry.send(RecentBatches(limit)).await?;
    Ok(HttpResponse::Ok().json(BatchList { batches }))
}
