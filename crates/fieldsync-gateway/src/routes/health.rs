//! Whether the gateway works, for supervisors and load balancers.
//!
//! `/healthz`: the process and its ledger. A restart would not help a destination, so that a stopped one is reported
//! with 200. `/readyz`: whether batches are accepted: a destination that waits for an administrator means 503, and so does a
//! gateway that is ending.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::Data;
use serde::Serialize;

use super::GatewayState;
use crate::batch_processor::DestinationReport;
use crate::causes::with_causes;
use crate::metrics::ConditionLabel;

pub(super) const HEALTH_PATH: &str = "/healthz";
pub(super) const READY_PATH: &str = "/readyz";

#[derive(Serialize)]
struct HealthBody {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<DestinationBody>,
    /// `stopped` if the receiver of forwarded records wants no more requests. Devices are served nevertheless.
    #[serde(skip_serializing_if = "Option::is_none")]
    forwarding: Option<&'static str>,
}

#[derive(Serialize)]
struct DestinationBody {
    condition: &'static str,
    /// Why it takes no records.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    stopped_types: Vec<StoppedTypeBody>,
}

#[derive(Serialize)]
struct StoppedTypeBody {
    #[serde(rename = "type")]
    record_type: String,
    reason: String,
}

impl DestinationBody {
    fn new(report: DestinationReport) -> Self {
        let stopped_types = report.stopped_types.into_iter();
        Self {
            condition: report.condition.as_str(),
            reason: report.reason,
            stopped_types: stopped_types
                .map(|stop| StoppedTypeBody { record_type: stop.record_type, reason: stop.reason })
                .collect(),
        }
    }
}

pub(super) async fn report_health(state: Data<GatewayState>) -> HttpResponse {
    respond(&state, false).await
}

pub(super) async fn report_readiness(state: Data<GatewayState>) -> HttpResponse {
    respond(&state, true).await
}

async fn respond(state: &GatewayState, for_batches: bool) -> HttpResponse {
    let report = state.processor.report_destination();
    let is_stopped = report.as_ref().is_some_and(|report| report.condition == ConditionLabel::Stopped);
    let (code, status) = match state.processor.check_health().await {
        Err(error) => {
            tracing::error!(error = with_causes(&error), "the ledger does not respond");
            (StatusCode::SERVICE_UNAVAILABLE, "ledger_unavailable")
        }
        Ok(()) if state.processor.is_draining() && for_batches => {
            (StatusCode::SERVICE_UNAVAILABLE, "draining")
        }
        Ok(()) if is_stopped && for_batches => (StatusCode::SERVICE_UNAVAILABLE, "destination_stopped"),
        Ok(()) => (StatusCode::OK, "ok"),
    };
    let destination = report.map(DestinationBody::new);
    let forwarding = state.forward_control.is_stopped().then_some("stopped");
    HttpResponse::build(code).json(HealthBody { status, destination, forwarding })
}
