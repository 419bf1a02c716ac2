//! What people do on the local API: review records, try now, pause.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde_json::json;

use super::alerts::STORE_DAMAGED;
use super::api::{AcknowledgeAlert, Acknowledged, Changed, Selection};
use super::auth::Peer;
use super::error::ApiError;
use super::intake;
use super::records::{body, may_mend, record_id};
use super::server::Shared;
use crate::actors::TryNow;
use crate::actors::queue_store::{Entry, Write};
use crate::model::RecordId;
use crate::store::{Acknowledge, Mend, Pause, Review, ReviewAction, Selected};

/// `POST /v1/quarantine/retry`
pub(super) async fn retry(
    shared: web::Data<Shared>,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let selection = selection(&shared, payload).await?;
    review(&shared, selection, ReviewAction::Retry).await
}

/// `POST /v1/quarantine/discard`
pub(super) async fn discard(
    shared: web::Data<Shared>,
    peer: Peer,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    shared.admin(peer, "discarding records is for admins")?;
    let selection = selection(&shared, payload).await?;
    if selection.all && !selection.confirm {
        return Err(ApiError::bad_request(
            "confirmation_needed",
            "discarding all records under review needs \"confirm\": true; their payloads are gone for good",
        ));
    }
    review(&shared, selection, ReviewAction::Discard).await
}

async fn selection(shared: &Shared, payload: web::Payload) -> Result<Selection, ApiError> {
    let body = body(shared, payload).await?;
    let selection: Selection = serde_json::from_slice(&body).map_err(|error| {
        ApiError::bad_request(
            "invalid_selection",
            format!("{error}; send {{\"ids\": [\"…\"]}} or {{\"all\": true}}"),
        )
    })?;
    if selection.all == selection.ids.is_some() {
        return Err(ApiError::bad_request("invalid_selection", "send either \"ids\" or \"all\": true"));
    }
    Ok(selection)
}

async fn review(
    shared: &Shared,
    selection: Selection,
    action: ReviewAction,
) -> Result<HttpResponse, ApiError> {
    let mut changed = Vec::new();
    match selection.ids {
        Some(ids) => {
            let only = ids.first().copied();
            changed = step(shared, Selected::These(ids), action).await?;
            if let Some(id) = only.filter(|_| changed.is_empty()) {
                return Err(not_under_review(shared, id).await?);
            }
        }
        // A step at a time, so that others get their turn in between.
        None => loop {
            let some = step(shared, Selected::Next, action).await?;
            if some.is_empty() {
                break;
            }
            changed.extend(some);
        },
    }
    let verb = match action {
        ReviewAction::Retry => "queued again",
        ReviewAction::Discard => "discarded",
    };
    for id in &changed {
        tracing::info!(record_id = %id, "record {id} was {verb} on request");
        shared.board_feed.announce("record", &json!({"id": id, "change": verb}));
    }
    Ok(HttpResponse::Ok().json(Changed { changed: changed.len() as u64 }))
}

async fn step(shared: &Shared, selected: Selected, action: ReviewAction) -> Result<Vec<RecordId>, ApiError> {
    Ok(shared.store.send(Write(Review { selected, action })).await??)
}

async fn not_under_review(shared: &Shared, id: RecordId) -> Result<ApiError, ApiError> {
    let known = shared.store.send(Entry(id)).await??.is_some();
    Ok(if known {
        ApiError::new(
            StatusCode::CONFLICT,
            "not_quarantined",
            "none of these records is QUARANTINED; nothing was changed",
        )
    } else {
        ApiError::no_such_record()
    })
}

/// `PUT /v1/records/{id}/payload`
pub(super) async fn mend(
    shared: web::Data<Shared>,
    peer: Peer,
    path: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let id = record_id(&path)?;
    let body = body(&shared, payload).await?;
    let payload = intake::object(&body).map_err(|reason| ApiError::bad_request("invalid_record", reason))?;
    may_mend(&shared, peer, id).await?;
    shared.store.send(Write(Mend { id, payload })).await???;
    tracing::info!(record_id = %id, "record {id} was mended and queued again");
    let entry = shared.store.send(Entry(id)).await??.ok_or_else(ApiError::no_such_record)?;
    Ok(HttpResponse::Ok().json(entry))
}

/// `POST /v1/sync`
pub(super) async fn sync_now(shared: web::Data<Shared>) -> Result<HttpResponse, ApiError> {
    shared.planner.send(TryNow).await?;
    Ok(HttpResponse::Accepted().json(shared.board.status()))
}

/// `POST /v1/pause`
pub(super) async fn pause(shared: web::Data<Shared>, peer: Peer) -> Result<HttpResponse, ApiError> {
    set_paused(&shared, peer, true).await
}

/// `POST /v1/resume`
pub(super) async fn resume(shared: web::Data<Shared>, peer: Peer) -> Result<HttpResponse, ApiError> {
    set_paused(&shared, peer, false).await
}

async fn set_paused(shared: &Shared, peer: Peer, paused: bool) -> Result<HttpResponse, ApiError> {
    shared.admin(peer, "pausing and resuming is for admins")?;
    shared.store.send(Write(Pause(paused))).await??;
    tracing::info!("{} on request", if paused { "paused" } else { "resumed" });
    Ok(HttpResponse::Ok().json(json!({"paused": paused})))
}

/// `POST /v1/alerts/acknowledge`
pub(super) async fn acknowledge(
    shared: web::Data<Shared>,
    peer: Peer,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    shared.admin(peer, "acknowledging alerts is for admins")?;
    let body = body(&shared, payload).await?;
    let invalid = |what: String| {
        let message =
            format!("{what}; send {{\"alert\": \"{STORE_DAMAGED}\"}}; other alerts go when their cause does");
        ApiError::bad_request("invalid_alert", message)
    };
    let wanted: AcknowledgeAlert =
        serde_json::from_slice(&body).map_err(|error| invalid(error.to_string()))?;
    if wanted.alert != STORE_DAMAGED {
        return Err(invalid(format!("`{}` cannot be acknowledged", wanted.alert)));
    }
    let acknowledged = shared.store.send(Write(Acknowledge)).await??;
    for damage in &acknowledged {
        tracing::info!("the damage that is kept as {} was acknowledged on request", damage.kept_as);
    }
    Ok(HttpResponse::Ok().json(Acknowledged { acknowledged }))
}
