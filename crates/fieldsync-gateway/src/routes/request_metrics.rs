//! Counts requests and refusals, and chooses the format in which they are reported.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{ACCEPT, HeaderMap};
use actix_web::http::{ConnectionType, StatusCode};
use actix_web::middleware::Next;
use actix_web::web::Data;

use super::health::{HEALTH_PATH, READY_PATH};
use super::{GatewayState, LEDGER_PATH, METRICS_PATH, STATUS_PATH};
use crate::admin::ADMIN_PATH;
use crate::metrics::{AuthFailure, MetricFormat, Metrics, OPEN_METRICS_NAME, RouteLabel, ThrottleLimit};
use crate::request_error::RequestError;

/// The end of the pattern of outcome queries.
const OUTCOME_PATTERN_END: &str = "/{batch_id}";

/// Counts a request with its response, and measures it. A gateway that is ending closes the connection, and so does one that
/// needs its place: connections are scarce, or the device was asked to return later.
pub(crate) async fn count_request(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let state = request.app_data::<Data<GatewayState>>().cloned();
    let Some(state) = state else { return next.call(request).await };
    let metrics = &state.metrics;
    let began = metrics.now();
    let in_flight = metrics.http.start_request();
    let mut response = next.call(request).await;
    drop(in_flight);
    if let Ok(response) = &mut response {
        let returns_later = response.status() == StatusCode::TOO_MANY_REQUESTS;
        if returns_later || state.connections.are_scarce() || state.processor.is_draining() {
            response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
        }
        let route = label_route(response.request().match_pattern().as_deref());
        metrics.http.count_response(route, response.status(), metrics.elapsed_since(began));
    }
    response
}

/// Counts what the response alone does not tell.
pub(super) fn count_refusal(metrics: &Metrics, error: &RequestError) {
    match error {
        RequestError::Unauthorized => metrics.http.count_auth_failure(AuthFailure::Token),
        RequestError::OtherDevice(_) | RequestError::DeviceToken => {
            metrics.http.count_auth_failure(AuthFailure::Device);
        }
        RequestError::DeviceBusy { .. } => metrics.http.count_throttled(ThrottleLimit::Device),
        RequestError::Busy { .. } => metrics.http.count_throttled(ThrottleLimit::Gateway),
        RequestError::Draining { .. } => metrics.http.count_throttled(ThrottleLimit::Draining),
        RequestError::DestinationRefusal { .. } => metrics.http.count_throttled(ThrottleLimit::Destination),
        _ => {}
    }
}

/// `OpenMetrics` for senders that name it, as Prometheus does.
pub(super) fn negotiate_format(headers: &HeaderMap) -> MetricFormat {
    let mut accepted = headers.get_all(ACCEPT).filter_map(|value| value.to_str().ok());
    if accepted.any(|value| value.contains(OPEN_METRICS_NAME)) {
        MetricFormat::OpenMetrics
    } else {
        MetricFormat::PrometheusText
    }
}

/// The path of the batch endpoint is configurable; all others are not.
fn label_route(pattern: Option<&str>) -> RouteLabel {
    match pattern {
        None => RouteLabel::Other,
        Some(HEALTH_PATH) => RouteLabel::Health,
        Some(READY_PATH) => RouteLabel::Ready,
        Some(METRICS_PATH) => RouteLabel::Metrics,
        Some(LEDGER_PATH) => RouteLabel::Ledger,
        Some(admin) if admin.starts_with(ADMIN_PATH) => RouteLabel::Admin,
        Some(outcome) if outcome.ends_with(OUTCOME_PATTERN_END) => RouteLabel::Outcome,
        Some(status) if status.ends_with(STATUS_PATH) => RouteLabel::DeviceStatus,
        Some(_) => RouteLabel::Batch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_senders_make_up_have_one_label() {
        assert_eq!(label_route(None), RouteLabel::Other);
        assert_eq!(label_route(Some("/crm/v2/mobile/sync/batch")), RouteLabel::Batch);
        assert_eq!(label_route(Some("/crm/v2/mobile/sync/batch/{batch_id}")), RouteLabel::Outcome);
        assert_eq!(label_route(Some("/sync/devices/{device_id}/status")), RouteLabel::DeviceStatus);
        assert_eq!(label_route(Some("/admin/refused/{id}")), RouteLabel::Admin);
        assert_eq!(label_route(Some("/healthz")), RouteLabel::Health);
    }
}
