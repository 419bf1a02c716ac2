//! What people do on the local API: review records, try now, pause.

use hyper::StatusCode;

use super::auth::Peer;
use super::body::RequestBody;
use super::error::ApiError;
use super::http::{self, Response};
use super::records::{may_mend, record_id};
use super::state::Shared;
use crate::actors::queue_store::Write;
use crate::actors::{Disbanded, TryNow};
use crate::api::{
    AcknowledgeAlert, Acknowledged, Changed, PauseState, RecordChange, RecordDecision, RefusedRecord,
    Selection, Status,
};
use crate::api::{AlertName, submission};
use crate::model::{ManifestEntry, RecordId, RecordState};
use crate::protocol::wire::{ID_CONFLICT, ID_OF_OTHER_DEVICE};
use crate::store::{
    Acknowledge, AddRefused, AddToReview, Mend, Pause, REVIEW_STEP, Review, ReviewAction, Reviewed, Selected,
};
use crate::telemetry::event::Event;

/// Put records that wait under review
///
/// So that a person can mend or discard them. A record that is being sent, or whose outcome is not known yet, is refused; what is under
/// review already is left as it is. Of several ids, those that were refused are named; when all of them were, the first is the error.
#[utoipa::path(
    post, path = "/v1/quarantine/add", tag = "review", request_body = Selection,
    responses((status = 200, description = "They are under review.", body = Changed)),
)]
pub(super) async fn add(shared: &Shared, peer: &Peer, body: RequestBody) -> Result<Response, ApiError> {
    shared.admin(peer, "putting records under review is for admins")?;
    let Some(ids) = read_selection(&body.whole(shared).await?.bytes)?.ids else {
        return Err(ApiError::bad_request(
            "invalid_selection",
            "records are put under review by their ids: send {\"ids\": [\"…\"]}",
        ));
    };
    let (mut changed, mut refused) = (0, Vec::new());
    let mut rest = ids.as_slice();
    while !rest.is_empty() {
        let step = AddToReview { ids: rest.iter().take(REVIEW_STEP).copied().collect() };
        let done = shared.store.send(Write(step)).await??;
        rest = rest.get(done.looked_at..).unwrap_or_default();
        changed += done.added.len();
        refused.extend(done.refused);
        if !done.disbanded.is_empty() {
            shared.planner.send(Disbanded(done.disbanded)).await?;
        }
        for record in done.added {
            if let Err(error) = shared.telemetry.send(Event::RecordAddedToReview(record)).await {
                tracing::debug!(%error, "telemetry did not take an event");
            }
        }
    }
    if refused.len() == ids.len()
        && let Some((_, first)) = refused.first()
    {
        return Err((*first).into());
    }
    let named = |(id, why): (RecordId, AddRefused)| {
        let (code, message) = ApiError::from(why).into_parts();
        RefusedRecord { id, code, message }
    };
    let refused = refused.into_iter().map(named).collect();
    Ok(http::json(StatusCode::OK, &Changed { changed: changed as u64, refused }))
}

/// Queue records under review again
///
/// Admins may queue all of them, others what they handed over: then `"all": true` stands for these, and ids of other
/// users' records are refused before anything is changed.
#[utoipa::path(
    post, path = "/v1/quarantine/retry", tag = "review", request_body = Selection,
    responses((status = 200, description = "They are queued.", body = Changed)),
)]
pub(super) async fn retry(shared: &Shared, peer: &Peer, body: RequestBody) -> Result<Response, ApiError> {
    let selection = read_selection(&body.whole(shared).await?.bytes)?;
    let submitter = (!shared.is_admin(peer)).then_some(peer.uid);
    if let (Some(submitter), Some(ids)) = (submitter, &selection.ids) {
        require_own(shared, submitter, ids).await?;
    }
    review(shared, selection, ReviewAction::Retry, submitter).await
}

/// Queues records under review again, whoever handed them over.
pub(super) async fn retry_any(shared: &Shared, body: &[u8]) -> Result<Response, ApiError> {
    let selection = read_selection(body)?;
    review(shared, selection, ReviewAction::Retry, None).await
}

/// Refuses a selection that has records of other users.
async fn require_own(shared: &Shared, submitter: u32, ids: &[RecordId]) -> Result<(), ApiError> {
    for some in ids.chunks(REVIEW_STEP) {
        let some = some.to_vec();
        let foreign = shared.look(move |view| {
            for id in some {
                if view.submitter(id)?.is_some_and(|of| of != submitter) {
                    return Ok(Some(id));
                }
            }
            Ok(None)
        });
        if let Some(id) = foreign.await? {
            return Err(ApiError::not_permitted(&format!(
                "record {id} was handed over by another user, and nothing was changed: without being an admin, you \
                 may only queue your own records again"
            )));
        }
    }
    Ok(())
}

/// Discard records under review
///
/// For good. Discarding all of them needs `"confirm": true`.
#[utoipa::path(
    post, path = "/v1/quarantine/discard", tag = "review", request_body = Selection,
    responses((status = 200, description = "They are gone.", body = Changed)),
)]
pub(super) async fn discard(shared: &Shared, peer: &Peer, body: RequestBody) -> Result<Response, ApiError> {
    shared.admin(peer, "discarding records is for admins")?;
    let selection = read_selection(&body.whole(shared).await?.bytes)?;
    if selection.all && !selection.confirm {
        return Err(ApiError::bad_request(
            "confirmation_needed",
            "discarding all records under review needs \"confirm\": true; their payloads are gone for good",
        ));
    }
    review(shared, selection, ReviewAction::Discard, None).await
}

fn read_selection(body: &[u8]) -> Result<Selection, ApiError> {
    let selection: Selection = submission::named(body).map_err(|error| {
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
    submitter: Option<u32>,
) -> Result<Response, ApiError> {
    let mut changed = 0;
    if let Some(ids) = selection.ids {
        for some in ids.chunks(REVIEW_STEP) {
            let selected = Selected::These(some.to_vec());
            changed += step(shared, Review { selected, action, submitter }).await?.changed.len();
        }
        if let Some(id) = ids.first().filter(|_| changed == 0) {
            return Err(not_under_review(shared, *id).await?);
        }
    } else {
        let mut after = None;
        loop {
            let selected = Selected::After(after);
            let reviewed = step(shared, Review { selected, action, submitter }).await?;
            changed += reviewed.changed.len();
            after = reviewed.next;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(http::json(StatusCode::OK, &Changed { changed: changed as u64, ..Changed::default() }))
}

/// A part of a review, told as soon as it is on disk.
async fn step(shared: &Shared, review: Review) -> Result<Reviewed, ApiError> {
    let (verb, decision) = match review.action {
        ReviewAction::Retry => ("queued again", RecordDecision::QueuedAgain),
        ReviewAction::Discard => ("discarded", RecordDecision::Discarded),
    };
    let _turn = shared.changes.take().await?;
    let (is_all, is_of_user) = (matches!(review.selected, Selected::After(_)), review.submitter.is_some());
    let reviewed = shared.store.send(Write(review)).await??;
    let changed = reviewed.changed.len();
    if is_all && changed > 0 {
        let of = if is_of_user { "a user's" } else { "all" };
        tracing::info!(records = changed, "{changed} of {of} records under review were {verb} on request");
    }
    for id in &reviewed.changed {
        if is_all {
            tracing::debug!(record_id = %id, "record {id} was {verb} on request");
        } else {
            tracing::info!(record_id = %id, "record {id} was {verb} on request");
        }
        shared.board_feed.announce("record", &RecordChange::by(*id, decision));
    }
    Ok(reviewed)
}

async fn not_under_review(shared: &Shared, id: RecordId) -> Result<ApiError, ApiError> {
    let Some(entry) = shared.look(move |view| view.entry(id)).await? else {
        return Ok(ApiError::no_such_record());
    };
    let mut message = "none of these records is QUARANTINED; nothing was changed".to_owned();
    if entry.state != RecordState::Synced {
        message += "; an admin can put one that waits under review: fieldsync quarantine add ID";
    }
    Ok(ApiError::new(StatusCode::CONFLICT, "not_quarantined", message))
}

/// Mend a record under review
///
/// The body is its new payload, a JSON object; it is queued again. For the user who handed the record over, and admins.
#[utoipa::path(
    put, path = "/v1/records/{id}/payload", tag = "review",
    params(("id" = String, Path, format = "uuid", description = "The record.")),
    request_body = Object,
    responses((status = 200, description = "It is queued.", body = ManifestEntry)),
)]
pub(super) async fn mend(
    shared: &Shared,
    peer: &Peer,
    id: &str,
    body: RequestBody,
) -> Result<Response, ApiError> {
    let id = record_id(id)?;
    may_mend(shared, peer, id).await?;
    if !shared.is_admin(peer) {
        require_uncontested(shared, id).await?;
    }
    let body = body.whole(shared).await?;
    let payload =
        submission::object(&body.bytes).map_err(|reason| ApiError::bad_request("invalid_record", reason))?;
    shared.store.send(Write(Mend { id, payload })).await???;
    tracing::info!(record_id = %id, "record {id} was mended and queued again");
    shared.board_feed.announce("record", &RecordChange::by(id, RecordDecision::QueuedAgain));
    let entry = shared.look(move |view| view.entry(id)).await?.ok_or_else(ApiError::no_such_record)?;
    Ok(http::json(StatusCode::OK, &entry))
}

/// The server compares a record with what it has under the same id, which may be another user's: a user that mended it
/// again and again would learn that content.
async fn require_uncontested(shared: &Shared, id: RecordId) -> Result<(), ApiError> {
    let error = shared.look(move |view| view.entry(id)).await?.and_then(|entry| entry.last_error);
    let code = error.and_then(|error| error.code);
    if !matches!(code.as_deref(), Some(ID_CONFLICT | ID_OF_OTHER_DEVICE)) {
        return Ok(());
    }
    let message = "the server has this id with other content, which mending does not change; nothing was changed; hand the \
                   record over again under a new id, and ask an admin to discard this one";
    Err(ApiError::new(StatusCode::CONFLICT, "id_conflict", message))
}

/// Try now
///
/// Ends a wait, and once a deferral on a metered network or a low battery. It does not end a pause.
#[utoipa::path(
    post, path = "/v1/sync", tag = "control",
    responses((status = 202, description = "It is tried; the status as it was before that.", body = Status)),
)]
pub(super) async fn sync_now(shared: &Shared, peer: &Peer) -> Result<Response, ApiError> {
    drop(shared.turns.take().await?);
    shared.planner.send(TryNow).await?;
    Ok(http::json(StatusCode::ACCEPTED, &shared.board.status_for(shared.audience(peer))))
}

/// Send nothing
///
/// Until `POST /v1/resume`, over restarts, too. Records are taken.
#[utoipa::path(
    post, path = "/v1/pause", tag = "control",
    responses((status = 200, description = "Nothing is sent.", body = PauseState)),
)]
pub(super) async fn pause(shared: &Shared, peer: &Peer) -> Result<Response, ApiError> {
    set_paused(shared, peer, true).await
}

/// Send again
#[utoipa::path(
    post, path = "/v1/resume", tag = "control",
    responses((status = 200, description = "Records are sent.", body = PauseState)),
)]
pub(super) async fn resume(shared: &Shared, peer: &Peer) -> Result<Response, ApiError> {
    set_paused(shared, peer, false).await
}

async fn set_paused(shared: &Shared, peer: &Peer, paused: bool) -> Result<Response, ApiError> {
    shared.admin(peer, "pausing and resuming is for admins")?;
    shared.store.send(Write(Pause(paused))).await??;
    tracing::info!("{} on request", if paused { "paused" } else { "resumed" });
    Ok(http::json(StatusCode::OK, &PauseState { paused }))
}

/// Acknowledge an alert
///
/// That of a damaged store stays until somebody says that they have seen it; others go when their cause does.
#[utoipa::path(
    post, path = "/v1/alerts/acknowledge", tag = "control", request_body = AcknowledgeAlert,
    responses((status = 200, description = "It is gone.", body = Acknowledged)),
)]
pub(super) async fn acknowledge(
    shared: &Shared,
    peer: &Peer,
    body: RequestBody,
) -> Result<Response, ApiError> {
    shared.admin(peer, "acknowledging alerts is for admins")?;
    let body = body.whole(shared).await?;
    let invalid = |what: String| {
        let message = format!(
            "{what}; send {{\"alert\": \"{}\"}}; other alerts go when their cause does",
            AlertName::StoreDamaged
        );
        ApiError::bad_request("invalid_alert", message)
    };
    let wanted: AcknowledgeAlert = submission::named(&body.bytes).map_err(invalid)?;
    if wanted.alert != AlertName::StoreDamaged.to_string() {
        return Err(invalid(format!("`{}` cannot be acknowledged", wanted.alert)));
    }
    let acknowledged = shared.store.send(Write(Acknowledge)).await??;
    for damage in &acknowledged {
        tracing::info!("the damage that is kept as {} was acknowledged on request", damage.kept_as);
    }
    Ok(http::json(StatusCode::OK, &Acknowledged { acknowledged }))
}
