//! Maps methods and paths of the local API to its handlers.

use std::borrow::Cow;

use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Request, StatusCode};
use percent_encoding::percent_decode_str;

use super::auth::Peer;
use super::body::{BodyMemory, RequestBody};
use super::error::ApiError;
use super::http::{HttpResponse, error_response};
use super::state::ApiState;
use super::user_quotas::UserQuotas;
use super::{batches, control, events, lookup, openapi, overview, records, review};

/// What all connections on the socket share.
pub(super) struct SocketApi {
    pub(super) state: ApiState,
    pub(super) body_memory: BodyMemory,
    /// One for each reader of events.
    pub(super) event_slots: UserQuotas,
}

/// Responds to a request of this peer, if the kernel identifies it.
pub(super) async fn handle_request(
    api: &SocketApi,
    peer: Option<&Peer>,
    request: Request<Incoming>,
) -> HttpResponse {
    let (head, body) = request.into_parts();
    let path: Vec<Cow<'_, str>> = head.uri.path().split('/').skip(1).map(decode_segment).collect();
    let path: Vec<&str> = path.iter().map(AsRef::as_ref).collect();
    let Some(methods) = allowed_methods(&path) else {
        let message = "there is nothing at this path; GET /v1/openapi.json describes what there is";
        return error_response(&ApiError::new(StatusCode::NOT_FOUND, "not_found", message));
    };
    let Some(peer) = peer else {
        return error_response(&ApiError::not_permitted("the kernel does not identify the caller"));
    };
    if methods.split(", ").all(|method| method != head.method.as_str()) {
        return method_not_allowed(methods);
    }
    let query = head.uri.query().unwrap_or_default();
    let body = RequestBody::new(&head.headers, body, peer, &api.body_memory);
    let state = &api.state;
    let response = match (head.method.as_str(), path.as_slice()) {
        ("GET", ["v1", "status"]) => overview::get_status(state, peer).await,
        ("GET", ["v1", "configuration"]) => overview::get_configuration(state).await,
        ("GET", ["v1", "telemetry"]) => overview::get_telemetry(state).await,
        ("GET", ["v1", "batches"]) => overview::list_batches(state, query).await,
        ("GET", ["v1", "batches", id]) => batches::get_batch(state, peer, id).await,
        ("GET", ["metrics"]) => overview::get_metrics(state, &head.headers).await,
        ("GET", ["v1", "openapi.json"]) => openapi::get_openapi(state).await,
        ("GET", ["v1", "events"]) => {
            events::stream_events(state, &api.event_slots, peer, &head.headers, query)
        }
        ("POST", ["v1", "records"]) => records::enqueue_records(state, peer, body).await,
        ("GET", ["v1", "records"]) => records::list_records(state, peer, query).await,
        ("POST", ["v1", "records", "lookup"]) => lookup::look_up_records(state, peer, body).await,
        ("GET", ["v1", "records", id]) => records::get_record(state, peer, id, query).await,
        ("GET", ["v1", "manifest"]) => records::stream_manifest(state, peer, query),
        ("PUT", ["v1", "records", id, "payload"]) => review::replace_payload(state, peer, id, body).await,
        ("POST", ["v1", "quarantine", "add"]) => review::quarantine_records(state, peer, body).await,
        ("POST", ["v1", "quarantine", "retry"]) => review::retry_records(state, peer, body).await,
        ("POST", ["v1", "quarantine", "discard"]) => review::discard_records(state, peer, body).await,
        ("POST", ["v1", "alerts", "acknowledge"]) => control::acknowledge_alert(state, peer, body).await,
        ("POST", ["v1", "sync"]) => control::sync_now(state, peer).await,
        ("POST", ["v1", "pause"]) => control::pause_sync(state, peer, query, body).await,
        ("POST", ["v1", "resume"]) => control::resume_sync(state, peer).await,
        _ => Ok(method_not_allowed(methods)),
    };
    response.unwrap_or_else(|error| error_response(&error))
}

/// Clients may percent-encode any character. What is not UTF-8 then stays as it is.
fn decode_segment(segment: &str) -> Cow<'_, str> {
    percent_decode_str(segment).decode_utf8().unwrap_or(Cow::Borrowed(segment))
}

/// None if there is nothing at this path.
fn allowed_methods(path: &[&str]) -> Option<&'static str> {
    match path {
        ["v1", "records"] => Some("GET, POST"),
        ["v1", "records", id, "payload"] if !id.is_empty() => Some("PUT"),
        ["v1", "records", "lookup"]
        | ["v1", "sync" | "pause" | "resume"]
        | ["v1", "quarantine", "add" | "retry" | "discard"]
        | ["v1", "alerts", "acknowledge"] => Some("POST"),
        ["v1", "records" | "batches", id] if !id.is_empty() => Some("GET"),
        [
            "v1",
            "status" | "configuration" | "events" | "manifest" | "batches" | "telemetry" | "openapi.json",
        ]
        | ["metrics"] => Some("GET"),
        _ => None,
    }
}

fn method_not_allowed(methods: &'static str) -> HttpResponse {
    let message = format!("this path takes {methods}; GET /v1/openapi.json describes it");
    let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
    let mut response = error_response(&error);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}
