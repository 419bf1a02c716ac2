//! Which call goes where.

use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Request, StatusCode};

use super::auth::Peer;
use super::body::{Bodies, RequestBody};
use super::error::ApiError;
use super::http::Response;
use super::shares::Shares;
use super::state::Shared;
use super::{events, openapi, overview, records, review};

/// What the calls on the socket use.
pub(super) struct Api {
    pub(super) shared: Shared,
    /// Memory for large bodies.
    pub(super) bodies: Bodies,
    /// Readers of events.
    pub(super) event_slots: Shares,
}

/// The response to a request of this caller.
pub(super) async fn respond(api: &Api, peer: &Peer, request: Request<Incoming>) -> Response {
    let (head, body) = request.into_parts();
    let path: Vec<&str> = head.uri.path().split('/').skip(1).collect();
    let Some(methods) = methods(&path) else {
        let message = "there is nothing at this path; GET /v1/openapi.json describes what there is";
        return ApiError::new(StatusCode::NOT_FOUND, "not_found", message).response();
    };
    let query = head.uri.query().unwrap_or_default();
    let body = RequestBody::new(&head.headers, body, peer, &api.bodies);
    let shared = &api.shared;
    let response = match (head.method.as_str(), path.as_slice()) {
        ("GET", ["v1", "status"]) => overview::status(shared, peer).await,
        ("GET", ["v1", "telemetry"]) => overview::telemetry(shared).await,
        ("GET", ["v1", "batches"]) => overview::batches(shared, query).await,
        ("GET", ["metrics"]) => overview::open_metrics(shared).await,
        ("GET", ["v1", "openapi.json"]) => openapi::openapi(shared).await,
        ("GET", ["v1", "events"]) => events::events(shared, &api.event_slots, peer, &head.headers, query),
        ("POST", ["v1", "records"]) => records::enqueue(shared, peer, body).await,
        ("GET", ["v1", "records"]) => records::list(shared, peer, query).await,
        ("GET", ["v1", "records", id]) => records::show(shared, peer, id, query).await,
        ("GET", ["v1", "manifest"]) => records::manifest(shared, peer, query),
        ("PUT", ["v1", "records", id, "payload"]) => review::mend(shared, peer, id, body).await,
        ("POST", ["v1", "quarantine", "add"]) => review::add(shared, peer, body).await,
        ("POST", ["v1", "quarantine", "retry"]) => review::retry(shared, peer, body).await,
        ("POST", ["v1", "quarantine", "discard"]) => review::discard(shared, peer, body).await,
        ("POST", ["v1", "alerts", "acknowledge"]) => review::acknowledge(shared, peer, body).await,
        ("POST", ["v1", "sync"]) => review::sync_now(shared, peer).await,
        ("POST", ["v1", "pause"]) => review::pause(shared, peer).await,
        ("POST", ["v1", "resume"]) => review::resume(shared, peer).await,
        _ => Ok(method_not_allowed(methods)),
    };
    response.unwrap_or_else(|error| error.response())
}

/// The methods that a path takes; none where there is nothing.
fn methods(path: &[&str]) -> Option<&'static str> {
    match path {
        ["v1", "records"] => Some("GET, POST"),
        ["v1", "records", id, "payload"] if !id.is_empty() => Some("PUT"),
        ["v1", "records", id] if !id.is_empty() => Some("GET"),
        ["v1", "status" | "events" | "manifest" | "batches" | "telemetry" | "openapi.json"] | ["metrics"] => {
            Some("GET")
        }
        ["v1", "sync" | "pause" | "resume"]
        | ["v1", "quarantine", "add" | "retry" | "discard"]
        | ["v1", "alerts", "acknowledge"] => Some("POST"),
        _ => None,
    }
}

fn method_not_allowed(methods: &'static str) -> Response {
    let message = format!("this path takes {methods}; GET /v1/openapi.json describes it");
    let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
    let mut response = error.response();
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}
