//! The calls that only look at how things are: status, measurements, metrics, recent batches.

use hyper::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::Peer;
use super::error::ApiError;
use super::http::{self, Response};
use super::metrics;
use super::state::Shared;
use crate::actors::telemetry::{RecentBatches, Report};
use crate::api::{BatchList, Status, TelemetryReport};

/// Batches that one call lists, when it names no number.
const DEFAULT_BATCHES: usize = 50;

/// The status
///
/// Everything at a glance, put together without asking anybody; `caller` is about the user who asks. What the server said of
/// a whole request may quote any record in it: those messages are for admins.
#[utoipa::path(
    get, path = "/v1/status", tag = "status",
    responses((status = 200, description = "The status.", body = Status)),
)]
pub(super) async fn status(shared: &Shared, peer: &Peer) -> Result<Response, ApiError> {
    let _turn = shared.turns.take().await?;
    Ok(http::json(StatusCode::OK, &shared.board.status_for(shared.audience(peer))))
}

/// What was measured
///
/// How long records take, how batches of each size fare, which types cause delays, and what the network was like at failures; over
/// `telemetry.window`, and day by day. It survives a restart.
#[utoipa::path(
    get, path = "/v1/telemetry", tag = "status",
    responses((status = 200, description = "The report.", body = TelemetryReport)),
)]
pub(super) async fn telemetry(shared: &Shared) -> Result<Response, ApiError> {
    let _turn = shared.turns.take().await?;
    Ok(http::json(StatusCode::OK, &shared.telemetry.send(Report).await?))
}

/// Metrics
///
/// For Prometheus and others that read OpenMetrics.
#[utoipa::path(
    get, path = "/metrics", tag = "status",
    responses((status = 200, description = "The exposition.", body = String,
        content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8")),
)]
pub(super) async fn open_metrics(shared: &Shared) -> Result<Response, ApiError> {
    let _turn = shared.turns.take().await?;
    let backlog = shared.board.backlog.borrow().clone();
    let text = metrics::text(&shared.board.status(), &backlog).map_err(|error| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "metrics_failed", error.to_string())
    });
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    text.map(|text| http::text(content_type, text))
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
pub(super) async fn batches(shared: &Shared, query: &str) -> Result<Response, ApiError> {
    let query: BatchesQuery = http::read_query(query)?;
    let limit = query.limit.unwrap_or(DEFAULT_BATCHES);
    let _turn = shared.turns.take().await?;
    let batches = shared.telemetry.send(RecentBatches(limit)).await?;
    Ok(http::json(StatusCode::OK, &BatchList { batches }))
}
