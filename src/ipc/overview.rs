//! Calls that report how the daemon is doing: status, measurements, metrics, recent batches.

use hyper::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::Peer;
use super::error::ApiError;
use super::http::{HttpResponse, json_response, read_query, text_response};
use super::metrics::MetricFormat;
use super::state::ApiState;
use crate::actors::telemetry::{RecentBatches, ReportMeasurements};
use crate::api::{BatchList, Configuration, Status, TelemetryReport};
use crate::config_state::ConfigState;

/// How many batches are listed if the query has no limit.
const DEFAULT_BATCH_COUNT: usize = 50;

/// The status
///
/// Everything at a glance; `caller` is about the user who asks. Messages of the server about a whole request may quote any
/// record in it, so they are for admins only.
#[utoipa::path(
    get, path = "/v1/status", tag = "status", operation_id = "status",
    responses((status = 200, description = "The status.", body = Status)),
)]
pub(super) async fn get_status(state: &ApiState, peer: &Peer) -> Result<HttpResponse, ApiError> {
    let _permit = state.call_throttle.acquire().await?;
    Ok(json_response(StatusCode::OK, &state.sources.status_for(state.audience_of(peer))))
}

/// Configuration
///
/// Every key that is in effect, with its value and its source. A configuration with a mistake is refused: the last good
/// one stays in effect, and `refused` says what is wrong.
#[utoipa::path(
    get, path = "/v1/configuration", tag = "status", operation_id = "configuration",
    responses((status = 200, description = "The configuration.", body = Configuration)),
)]
pub(super) async fn get_configuration(state: &ApiState) -> Result<HttpResponse, ApiError> {
    let _permit = state.call_throttle.acquire().await?;
    let config = state.sources.config.borrow().clone();
    let ConfigState { sources, refusal, read_at, .. } = state.sources.config_state.borrow().clone();
    let configuration = Configuration::new(&config, &sources, refusal).with_read_at(read_at);
    Ok(json_response(StatusCode::OK, &configuration))
}

/// Measurements
///
/// How long records take, how batches of each size fare, which record types cause delays, and the state of the network at
/// failures: over `telemetry.window`, and day by day. The measurements survive a restart.
#[utoipa::path(
    get, path = "/v1/telemetry", tag = "status", operation_id = "telemetry",
    responses((status = 200, description = "The report.", body = TelemetryReport)),
)]
pub(super) async fn get_telemetry(state: &ApiState) -> Result<HttpResponse, ApiError> {
    let _permit = state.call_throttle.acquire().await?;
    Ok(json_response(StatusCode::OK, &state.telemetry.send(ReportMeasurements).await?))
}

/// Metrics
///
/// For Prometheus and others: OpenMetrics for callers whose `Accept` names it, else the text format of Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "status", operation_id = "open_metrics",
    responses((status = 200, description = "The exposition.", content(
        (String = "text/plain; version=0.0.4; charset=utf-8"),
        (String = "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ))),
)]
pub(super) async fn get_metrics(state: &ApiState, headers: &HeaderMap) -> Result<HttpResponse, ApiError> {
    let _permit = state.call_throttle.acquire().await?;
    let format = MetricFormat::negotiate(headers);
    let text = format.encode(state.metrics.collect()).map_err(|error| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "metrics_failed", error.to_string())
    });
    text.map(|text| text_response(format.content_type(), text))
}

/// The query of `GET /v1/batches`.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct BatchesQuery {
    /// The largest number of batches to list.
    #[param(default = 50)]
    pub(super) limit: Option<usize>,
    /// Only batches that ended at this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    pub(super) since: Option<String>,
}

/// Recent batches
///
/// The latest sends, newest first, with the outcome of each and the reason for its size. The last 500 are kept.
#[utoipa::path(
    get, path = "/v1/batches", tag = "status", operation_id = "batches", params(BatchesQuery),
    responses((status = 200, description = "The sends.", body = BatchList)),
)]
pub(super) async fn list_batches(state: &ApiState, query: &str) -> Result<HttpResponse, ApiError> {
    let query: BatchesQuery = read_query(query)?;
    let limit = query.limit.unwrap_or(DEFAULT_BATCH_COUNT);
    let since = query.since.map(|since| since.parse::<Timestamp>()).transpose();
    let since = since
        .map_err(|_| ApiError::bad_request("invalid_query", "`since` must be a time as in RFC 3339"))?
        .map(|since| u64::try_from(since.as_millisecond()).unwrap_or(0));
    let _permit = state.call_throttle.acquire().await?;
    let mut batches = state.telemetry.send(RecentBatches(limit)).await?;
    batches.retain(|batch| since.is_none_or(|since| batch.at >= since));
    Ok(json_response(StatusCode::OK, &BatchList { batches }))
}
