//! `GET /v1/events`: Server-Sent Events, the present status first.
//!
//! Event streams may use only part of the connections, and each user only part of the streams. A reader that falls behind
//! misses events and gets a `gap` event. A reader that stops reading is disconnected after `ipc.stall_timeout`.

use futures_util::stream::unfold;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderMap, HeaderValue};
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::Peer;
use super::error::ApiError;
use super::http::{HttpResponse, read_query, stream_response};
use super::state::ApiState;
use super::user_quotas::UserQuotas;

/// The header in which a reader that reconnects names the last event that it received.
const LAST_EVENT_ID: &str = "last-event-id";

/// The query of `GET /v1/events`.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// As the header `Last-Event-ID`, for clients that cannot set it.
    pub(super) last_event_id: Option<String>,
}

/// Events
///
/// Server-Sent Events. The first is `status`, the present status. Then come `progress` (the status again), `batch`, `record`, `breaker`,
/// `connectivity` and `alert`; `x-events` names the schema of the data of each. Every event has an `id`. A reader that reconnects with the
/// id of the last event that it received, in the header `Last-Event-ID`, gets the events that it missed after the `status`. If some of them
/// are no longer kept, or the daemon was restarted in between, a `gap` comes first. A reader that falls behind gets a `gap`, too; a reader
/// that stops reading is disconnected after `ipc.stall_timeout`. Nothing is sent while nothing happens.
///
/// The message of a record's error is for its submitter and admins, that of a whole request for admins; it is empty for other readers. The
/// keys of records that block others are null in `progress`, except for admins. Whether a reader is an admin is decided when it connects.
#[utoipa::path(
    get, path = "/v1/events", tag = "status", operation_id = "events", params(EventsQuery, (
        "Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was received.",
    )),
    responses((status = 200, description = "Events, until the daemon stops.", body = String,
        content_type = "text/event-stream")),
)]
pub(super) fn stream_events(
    state: &ApiState,
    slots: &UserQuotas,
    peer: &Peer,
    headers: &HeaderMap,
    query: &str,
) -> Result<HttpResponse, ApiError> {
    let query: EventsQuery = read_query(query)?;
    let Some(slot) = slots.try_acquire(peer.uid, 1) else {
        let message = "there are as many readers of events as ipc.max_event_streams allows, or half of them are this user's; \
                       try again later, or use GET /v1/status";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", message));
    };
    let header = headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or_default());
    let audience = state.audience_of(peer);
    let reader = state.event_feed.subscribe(audience, header.or(query.last_event_id.as_deref()));
    let mut status = state.sources.current_status();
    audience.redact_status(&mut status);
    let first = reader.first_event(&status);
    let begin = (Some(first), reader, state.shutdown.clone(), slot);
    let events = unfold(begin, |(first, mut reader, mut shutdown, slot)| async move {
        if let Some(first) = first {
            return Some((Ok(first), (None, reader, shutdown, slot)));
        }
        let event = tokio::select! {
            event = reader.next_event() => event,
            _ = shutdown.wait_for(|is_stopping| *is_stopping) => return None,
        };
        Some((Ok(event), (None, reader, shutdown, slot)))
    });
    let mut response = stream_response("text/event-stream", events);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}
