//! Records on the local API: taken in, listed, shown, exported.

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::Deserialize;

use super::api::{Accepted, RecordDetail, RecordPage};
use super::auth::Peer;
use super::error::ApiError;
use super::intake;
use super::server::Shared;
use crate::actors::queue_store::{Entry, List, Payload, Write};
use crate::actors::telemetry::Lineage;
use crate::model::{Place, RecordId};
use crate::store::{Append, Filter, Page};

/// Entries on a page when the caller names no number, and at most.
const DEFAULT_PAGE: usize = 100;
const MAX_PAGE: usize = 1000;

/// The body of a request, within the limit.
pub(super) async fn body(shared: &Shared, mut payload: web::Payload) -> Result<Bytes, ApiError> {
    let limit = usize::try_from(shared.board.config.borrow().ipc.max_request_bytes.0).unwrap_or(usize::MAX);
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| {
            ApiError::bad_request(
                "broken_request",
                format!("the request broke off: {error}; nothing was stored"),
            )
        })?;
        if body.len() + chunk.len() > limit {
            let message = format!(
                "the request is larger than ipc.max_request_bytes ({limit}); nothing was stored; send fewer records at a time"
            );
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// `POST /v1/records`
pub(super) async fn enqueue(
    shared: web::Data<Shared>,
    peer: Peer,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let body = body(&shared, payload).await?;
    let is_ndjson = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.to_ascii_lowercase().contains("ndjson"));
    let records = if is_ndjson { intake::ndjson(&body) } else { intake::json(&body) };
    let records = records.map_err(|invalid| {
        let several = !is_ndjson && invalid.to_string().contains("trailing characters");
        let hint = if several { " (one object a line needs Content-Type: application/x-ndjson)" } else { "" };
        ApiError::bad_request("invalid_record", format!("{invalid}; nothing was stored{hint}"))
            .at(invalid.position)
    })?;
    let appended = shared.store.send(Write(Append::new(records, peer.uid))).await???;
    Ok(HttpResponse::Created().json(Accepted {
        accepted: appended.accepted,
        duplicates: appended.duplicates,
        ids: appended.ids,
    }))
}

/// What `GET /v1/records` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    state: Option<String>,
    #[serde(rename = "type")]
    record_type: Option<String>,
    limit: Option<usize>,
    after: Option<String>,
}

/// `GET /v1/records`
pub(super) async fn list(shared: web::Data<Shared>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let wrong = |message: String| ApiError::bad_request("invalid_query", message);
    let query = web::Query::<ListQuery>::from_query(request.query_string())
        .map_err(|error| wrong(error.to_string()))?;
    let query = query.into_inner();
    let state = query.state.map(|state| state.parse()).transpose().map_err(wrong)?;
    let after = query.after.map(|cursor| cursor.parse().map(Place)).transpose();
    let after = after.map_err(|_| wrong("`after` must be the `next` of an earlier page".into()))?;
    let limit = query.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
    let page =
        shared.store.send(List(Filter { state, record_type: query.record_type, after, limit })).await??;
    let next = page.next.map(|place| place.0.to_string());
    Ok(HttpResponse::Ok().json(RecordPage { records: page.entries, next }))
}

/// The id in a path.
pub(super) fn record_id(path: &str) -> Result<RecordId, ApiError> {
    path.parse().map_err(|_| ApiError::bad_request("invalid_id", format!("`{path}` is no UUID")))
}

/// What `GET /v1/records/{id}` takes.
#[derive(Deserialize)]
pub(super) struct ShowQuery {
    #[serde(default)]
    payload: bool,
    #[serde(default)]
    lineage: bool,
}

/// `GET /v1/records/{id}`
pub(super) async fn show(
    shared: web::Data<Shared>,
    peer: Peer,
    path: web::Path<String>,
    query: Result<web::Query<ShowQuery>, actix_web::Error>,
) -> Result<HttpResponse, ApiError> {
    let id = record_id(&path)?;
    let query = query.map_err(|error| ApiError::bad_request("invalid_query", error.to_string()))?;
    let entry = shared.store.send(Entry(id)).await??.ok_or_else(ApiError::no_such_record)?;
    let payload = if query.payload { payload_for(&shared, peer, id).await? } else { None };
    let payload = payload.map(|payload| serde_json::value::RawValue::from_string(payload.into())).transpose();
    let payload = payload.map_err(|error| {
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "store_failed",
            format!("the payload does not read: {error}"),
        )
    })?;
    let lineage = match entry.batch_id.filter(|_| query.lineage) {
        Some(batch) => Some(shared.telemetry.send(Lineage(batch)).await?),
        None => query.lineage.then(Vec::new),
    };
    Ok(HttpResponse::Ok().json(RecordDetail { entry, lineage, payload }))
}

/// The payload, for its submitter and admins.
async fn payload_for(shared: &Shared, peer: Peer, id: RecordId) -> Result<Option<Box<str>>, ApiError> {
    let Some((payload, submitter)) = shared.store.send(Payload(id)).await?? else {
        return Ok(None);
    };
    if submitter == peer.uid || shared.is_admin(peer) {
        return Ok(Some(payload));
    }
    Err(ApiError::not_permitted("only its submitter and admins may see the payload of a record"))
}

/// Whether `peer` may change what record `id` says.
pub(super) async fn may_mend(shared: &Shared, peer: Peer, id: RecordId) -> Result<(), ApiError> {
    payload_for(shared, peer, id).await.map(drop)
}

/// `GET /v1/manifest`: a page at a time, so that memory stays small and the store is not held up.
pub(super) async fn manifest(shared: web::Data<Shared>) -> HttpResponse {
    let pages = futures_util::stream::unfold(Some(None), move |after: Option<Option<Place>>| {
        let store = shared.store.clone();
        async move {
            let filter = Filter { after: after?, limit: MAX_PAGE, ..Filter::default() };
            let page: Result<Page, ApiError> = async { Ok(store.send(List(filter)).await??) }.await;
            match page {
                Ok(page) => {
                    let next = page.next.map(Some);
                    Some((lines(&page), next))
                }
                Err(error) => Some((Err(error), None)),
            }
        }
    });
    HttpResponse::Ok().content_type("application/x-ndjson").streaming(pages)
}

fn lines(page: &Page) -> Result<Bytes, ApiError> {
    let mut lines = Vec::new();
    for entry in &page.entries {
        serde_json::to_writer(&mut lines, entry).map_err(|error| {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "store_failed", error.to_string())
        })?;
        lines.push(b'\n');
    }
    Ok(lines.into())
}
