//! `GET /v1/events`: Server-Sent Events, the present status first, then what happens.
//!
//! Readers have a share of the connections, so that they cannot take the place of all calls, and each user has a
//! share of that. A reader that does not keep up misses events and is told so; one that does not read at all is hung up on
//! (`ipc.stall_timeout`).

use futures_util::stream::unfold;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderMap, HeaderValue};
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::Peer;
use super::error::ApiError;
use super::http::{self, Response};
use super::shares::Shares;
use super::state::Shared;

/// Where a reader says which event it saw last, when it comes back.
const LAST_EVENT_ID: &str = "last-event-id";

/// What `GET /v1/events` takes.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// As the header `Last-Event-ID`, for those who cannot set one.
    pub(super) last_event_id: Option<String>,
}

/// What happens
///
/// Server-Sent Events. The first is `status`, the present status. Then come `progress` (the status again), `batch`, `record`, `breaker`,
/// `connectivity` and `alert`; `x-events` names the schema of each one's data. Every event has an `id`. A reader that comes back with the
/// last one that it saw, in the header `Last-Event-ID`, gets the events that it missed after the `status`; where some are no longer kept, or
/// the daemon was started anew in between, a `gap` says so first. A reader that does not keep up gets a `gap`, too; one
/// that reads nothing at all is hung up on after `ipc.stall_timeout`. Nothing is sent when nothing happens.
///
/// The message of a record's error is for its submitter and admins, that of a whole request for admins; others get it empty. The
/// keys of records that hold others back are null in `progress`, but for admins. Whether a reader is an admin is decided when it connects.
#[utoipa::path(
    get, path = "/v1/events", tag = "status", params(EventsQuery, (
        "Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was seen.",
    )),
    responses((status = 200, description = "Events, until the daemon ends.", body = String,
        content_type = "text/event-stream")),
)]
pub(super) fn events(
    shared: &Shared,
    slots: &Shares,
    peer: &Peer,
    headers: &HeaderMap,
    query: &str,
) -> Result<Response, ApiError> {
    let query: EventsQuery = http::read_query(query)?;
    let Some(slot) = slots.take(peer.uid, 1) else {
        let message = "as many readers of events as ipc.max_event_streams allows are connected, or half of them are this \
                       user's; try again later, or ask for the status";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", message));
    };
    let header = headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or_default());
    let audience = shared.audience(peer);
    let reader = shared.board_feed.listen(audience, header.or(query.last_event_id.as_deref()));
    let mut status = shared.board.status();
    audience.redact_status(&mut status);
    let first = reader.opening(&status);
    let begin = (Some(first), reader, shared.shutdown.clone(), slot);
    let events = unfold(begin, |(first, mut reader, mut shutdown, slot)| async move {
        if let Some(first) = first {
            return Some((Ok(first), (None, reader, shutdown, slot)));
        }
        let event = tokio::select! {
            event = reader.next() => event,
            _ = shutdown.wait_for(|ends| *ends) => return None,
        };
        Some((Ok(event), (None, reader, shutdown, slot)))
    });
    let mut response = http::stream("text/event-stream", events);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}
