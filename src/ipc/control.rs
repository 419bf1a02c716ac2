//! Calls that control the daemon: sync now, pause, resume, acknowledge an alert.

use hyper::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::Peer;
use super::body::RequestBody;
use super::error::ApiError;
use super::http::{HttpResponse, json_response, read_query};
use super::state::ApiState;
use crate::actors::TryNow;
use crate::actors::queue_store::write;
use crate::api::submission;
use crate::api::{AcknowledgeAlert, Acknowledged, AlertName, PauseRequest, PauseState, Status};
use crate::clock::{rfc3339, wall_ms};
use crate::model::Pause;
use crate::store::{AcknowledgeDamage, SetPaused};
use crate::user_name::user_name;

const PAUSE_IS_FOR_ADMINS: &str = "pausing and resuming is for admins";
/// A longer pause for a time is a mistake: one without an end is possible.
const PAUSE_SECONDS_MAX: u64 = 365 * 24 * 3600;

/// Sync now
///
/// Ends a wait, and one deferral because of a metered network or a low battery. It does not end a pause.
#[utoipa::path(
    post, path = "/v1/sync", tag = "control", operation_id = "sync_now",
    responses((status = 202, description = "A send is attempted; this is the status before it.", body = Status)),
)]
pub(super) async fn sync_now(state: &ApiState, peer: &Peer) -> Result<HttpResponse, ApiError> {
    try_now(state).await?;
    Ok(json_response(StatusCode::ACCEPTED, &state.sources.status_for(state.audience_of(peer))))
}

/// Ends a wait, for any caller.
pub(super) async fn try_now(state: &ApiState) -> Result<(), ApiError> {
    drop(state.call_throttle.acquire().await?);
    Ok(state.planner.send(TryNow).await?)
}

/// Pause sending
///
/// Until `POST /v1/resume`, or for a time; even after a restart. Records are still accepted. The status says who paused sending, and
/// since when. The time is in the query or in the body, at most a year; a body may also be absent.
#[utoipa::path(
    post, path = "/v1/pause", tag = "control", operation_id = "pause", params(PauseQuery),
    request_body = Option<PauseRequest>,
    responses((status = 200, description = "Sending is paused.", body = PauseState)),
)]
pub(super) async fn pause_sync(
    state: &ApiState,
    peer: &Peer,
    query: &str,
    body: RequestBody,
) -> Result<HttpResponse, ApiError> {
    state.require_admin(peer, PAUSE_IS_FOR_ADMINS)?;
    let query: PauseQuery = read_query(query)?;
    let body = body.read_all(state).await?;
    let length = find_pause_length(query.for_s, &body.bytes)?;
    let since = wall_ms();
    let until = length.map(|seconds| since.saturating_add(seconds.saturating_mul(1000)));
    set_paused(state, &user_name(peer.uid), Some(Pause { by: peer.uid, since, until })).await
}

/// In seconds; none for a pause without an end.
fn find_pause_length(of_query: Option<u64>, body: &[u8]) -> Result<Option<u64>, ApiError> {
    let code = if of_query.is_some() { "invalid_query" } else { "invalid_pause" };
    let invalid = |problem: &str| {
        let message = format!("{problem}; nothing was changed; send {{\"for_s\": 3600}}, or no body");
        Err(ApiError::bad_request(code, message))
    };
    let of_body = if body.trim_ascii().is_empty() {
        None
    } else {
        match submission::parse_named::<PauseRequest>(body) {
            Ok(request) => request.for_s,
            Err(problem) => return invalid(&problem),
        }
    };
    if of_query.is_some() && of_body.is_some() {
        return invalid("`for_s` is in the query and in the body");
    }
    match of_query.or(of_body) {
        Some(seconds) if !(1..=PAUSE_SECONDS_MAX).contains(&seconds) => invalid(&format!(
            "`for_s` must be from 1 to {PAUSE_SECONDS_MAX} seconds (a year); without it, sending stays paused until POST /v1/resume"
        )),
        seconds => Ok(seconds),
    }
}

/// The query of `POST /v1/pause`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PauseQuery {
    /// After this many seconds, sending resumes by itself.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 31_536_000)]
    for_s: Option<u64>,
}

/// Resume sending
#[utoipa::path(
    post, path = "/v1/resume", tag = "control", operation_id = "resume",
    responses((status = 200, description = "Records are sent.", body = PauseState)),
)]
pub(super) async fn resume_sync(state: &ApiState, peer: &Peer) -> Result<HttpResponse, ApiError> {
    state.require_admin(peer, PAUSE_IS_FOR_ADMINS)?;
    resume_as(state, &user_name(peer.uid)).await
}

/// Resumes sending, on behalf of the one that the journal names.
pub(super) async fn resume_as(state: &ApiState, who: &str) -> Result<HttpResponse, ApiError> {
    set_paused(state, who, None).await
}

async fn set_paused(state: &ApiState, who: &str, pause: Option<Pause>) -> Result<HttpResponse, ApiError> {
    write(&state.store, SetPaused(pause)).await?;
    let until = pause.and_then(|pause| pause.until);
    let end = until.map_or(String::new(), |until| format!(" until {}", rfc3339(until)));
    let done = if pause.is_some() { "paused" } else { "resumed" };
    tracing::info!("{done} on request of {who}{end}");
    Ok(json_response(StatusCode::OK, &PauseState { paused: pause.is_some(), until }))
}

/// Acknowledge an alert
///
/// The alert of a damaged store is active until it is acknowledged; other alerts end with their cause.
#[utoipa::path(
    post, path = "/v1/alerts/acknowledge", tag = "control", operation_id = "acknowledge", request_body = AcknowledgeAlert,
    responses((status = 200, description = "The alert has ended.", body = Acknowledged)),
)]
pub(super) async fn acknowledge_alert(
    state: &ApiState,
    peer: &Peer,
    body: RequestBody,
) -> Result<HttpResponse, ApiError> {
    state.require_admin(peer, "acknowledging alerts is for admins")?;
    let body = body.read_all(state).await?;
    let invalid = |problem: String| {
        let message = format!(
            "{problem}; send {{\"alert\": \"{}\"}}; other alerts end with their cause",
            AlertName::StoreDamaged
        );
        ApiError::bad_request("invalid_alert", message)
    };
    let request: AcknowledgeAlert = submission::parse_named(&body.bytes).map_err(invalid)?;
    if request.alert != AlertName::StoreDamaged.to_string() {
        return Err(invalid(format!("`{}` cannot be acknowledged", request.alert)));
    }
    let acknowledged = write(&state.store, AcknowledgeDamage).await?;
    for damage in &acknowledged {
        tracing::info!("the damaged file {} was acknowledged on request", damage.kept_as);
    }
    Ok(json_response(StatusCode::OK, &Acknowledged { acknowledged }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_pause_is_in_the_query_or_in_the_body() {
        for (query, body, length) in [
            (None, "", None),
            (None, " \n", None),
            (None, "{}", None),
            (None, "{\"for_s\": null}", None),
            (Some(60), "", Some(60)),
            (Some(60), "{}", Some(60)),
            (None, "{\"for_s\": 3600}", Some(3600)),
            (None, "{\"for_s\":31536000}", Some(31_536_000)),
        ] {
            assert_eq!(find_pause_length(query, body.as_bytes()).unwrap(), length, "{query:?} {body}");
        }
        for (query, body) in [
            (None, "x"),
            (None, "[]"),
            (None, "3600"),
            (None, "{\"until\": \"2030-01-01T00:00:00Z\"}"),
            (None, "{\"for_s\": \"1h\"}"),
            (None, "{\"for_s\": 0}"),
            (None, "{\"for_s\": -5}"),
            (None, "{\"for_s\": 31536001}"),
            (Some(0), ""),
            (Some(31_536_001), ""),
            (Some(60), "{\"for_s\": 60}"),
        ] {
            let error = find_pause_length(query, body.as_bytes()).unwrap_err();
            assert_eq!(error.status(), StatusCode::BAD_REQUEST, "{query:?} {body}: {error}");
            assert!(error.to_string().contains("nothing was changed"), "{error}");
        }
    }
}
