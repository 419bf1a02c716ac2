//! Calls that review records: quarantine, retry, discard, replace a payload.

use hyper::StatusCode;

use super::auth::Peer;
use super::body::RequestBody;
use super::error::ApiError;
use super::http::{HttpResponse, json_response};
use super::records::{parse_record_id, require_may_edit};
use super::state::ApiState;
use crate::actors::BatchesClosed;
use crate::actors::queue_store::write;
use crate::api::submission;
use crate::api::{Changed, RecordChange, RefusedRecord, Selection};
use crate::model::{ManifestEntry, RecordId, RecordState};
use crate::protocol::wire::{ID_CONFLICT, ID_OF_OTHER_DEVICE};
use crate::store::{
    AddRefused, AddToReview, REVIEW_STEP_RECORDS, ReplacePayload, Review, ReviewAction, ReviewSelection,
    ReviewSummary,
};
use crate::telemetry::event::Event;
use crate::user_name::user_name;

/// Put records under review
///
/// So that a person can edit or discard them. A record that is being sent, or whose outcome is not known yet, is refused; a record that is
/// under review already is left unchanged. The response lists the ids that were refused. If all were, the reason of the first is the error.
#[utoipa::path(
    post, path = "/v1/quarantine/add", tag = "review", operation_id = "add", request_body = Selection,
    responses((status = 200, description = "The records need review.", body = Changed)),
)]
pub(super) async fn quarantine_records(
    state: &ApiState,
    peer: &Peer,
    body: RequestBody,
) -> Result<HttpResponse, ApiError> {
    state.require_admin(peer, "marking records for review is for admins")?;
    let Some(ids) = read_selection(&body.read_all(state).await?.bytes)?.ids else {
        return Err(ApiError::bad_request(
            "invalid_selection",
            "records are marked for review by id: send {\"ids\": [\"…\"]}",
        ));
    };
    let (mut changed, mut refused) = (0, Vec::new());
    let mut rest = ids.as_slice();
    while !rest.is_empty() {
        let step = AddToReview { ids: rest.iter().take(REVIEW_STEP_RECORDS).copied().collect() };
        let done = write(&state.store, step).await?;
        rest = rest.get(done.examined..).unwrap_or_default();
        changed += done.added.len();
        refused.extend(done.refused);
        if !done.disbanded.is_empty() {
            state.planner.send(BatchesClosed(done.disbanded)).await?;
        }
        for record in done.added {
            if let Err(error) = state.telemetry.send(Event::RecordAddedToReview(record)).await {
                tracing::debug!(%error, "telemetry did not accept an event");
            }
        }
    }
    if refused.len() == ids.len()
        && let Some((_, first)) = refused.first()
    {
        return Err((*first).into());
    }
    let refused_record = |(id, why): (RecordId, AddRefused)| {
        let (code, message) = ApiError::from(why).into_parts();
        RefusedRecord { id, code, message }
    };
    let refused = refused.into_iter().map(refused_record).collect();
    Ok(json_response(StatusCode::OK, &Changed { changed: changed as u64, refused }))
}

/// Queue records under review again
///
/// Admins may queue all records, other users their own: for them, `"all": true` means their own records, and if any id is of another user's
/// record, nothing is changed.
#[utoipa::path(
    post, path = "/v1/quarantine/retry", tag = "review", operation_id = "retry", request_body = Selection,
    responses((status = 200, description = "The records are queued.", body = Changed)),
)]
pub(super) async fn retry_records(
    state: &ApiState,
    peer: &Peer,
    body: RequestBody,
) -> Result<HttpResponse, ApiError> {
    let selection = read_selection(&body.read_all(state).await?.bytes)?;
    let submitter = (!state.is_admin(peer)).then_some(peer.uid);
    if let (Some(submitter), Some(ids)) = (submitter, &selection.ids) {
        require_own_records(state, submitter, ids).await?;
    }
    review_records(state, selection, ReviewAction::Retry, submitter).await
}

/// Queues records of any user again.
pub(super) async fn retry_records_of_all(state: &ApiState, body: &[u8]) -> Result<HttpResponse, ApiError> {
    let selection = read_selection(body)?;
    review_records(state, selection, ReviewAction::Retry, None).await
}

/// Fails if any of the records is of another user.
async fn require_own_records(state: &ApiState, submitter: u32, ids: &[RecordId]) -> Result<(), ApiError> {
    for chunk in ids.chunks(REVIEW_STEP_RECORDS) {
        let chunk = chunk.to_vec();
        let foreign = state.with_view(move |view| {
            for id in chunk {
                if view.submitter_of(id)?.is_some_and(|of| of != submitter) {
                    return Ok(Some(id));
                }
            }
            Ok(None)
        });
        if let Some(id) = foreign.await? {
            return Err(ApiError::not_permitted(&format!(
                "record {id} was enqueued by another user, and nothing was changed: unless you are an admin, you may \
                 only queue your own records again"
            )));
        }
    }
    Ok(())
}

/// Discard records under review
///
/// This cannot be undone: their payloads are deleted. Each leaves a receipt with the state DISCARDED and `discarded_by`, which is kept as long
/// as the receipts of synced records. Discarding all of them needs `"confirm": true`.
#[utoipa::path(
    post, path = "/v1/quarantine/discard", tag = "review", operation_id = "discard", request_body = Selection,
    responses((status = 200, description = "The records are deleted.", body = Changed)),
)]
pub(super) async fn discard_records(
    state: &ApiState,
    peer: &Peer,
    body: RequestBody,
) -> Result<HttpResponse, ApiError> {
    state.require_admin(peer, "discarding records is for admins")?;
    let selection = read_selection(&body.read_all(state).await?.bytes)?;
    if selection.all && !selection.confirm {
        return Err(ApiError::bad_request(
            "confirmation_needed",
            "discarding all records that need review needs \"confirm\": true; their payloads are deleted permanently",
        ));
    }
    let by = user_name(peer.uid);
    review_records(state, selection, ReviewAction::Discard { by }, None).await
}

fn read_selection(body: &[u8]) -> Result<Selection, ApiError> {
    let selection: Selection = submission::parse_named(body).map_err(|error| {
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

async fn review_records(
    state: &ApiState,
    selection: Selection,
    action: ReviewAction,
    submitter: Option<u32>,
) -> Result<HttpResponse, ApiError> {
    let mut changed = 0;
    if let Some(ids) = selection.ids {
        for chunk in ids.chunks(REVIEW_STEP_RECORDS) {
            let selected = ReviewSelection::These(chunk.to_vec());
            let review = Review { selected, action: action.clone(), submitter };
            changed += review_step(state, review).await?.changed.len();
        }
        if let Some(id) = ids.first().filter(|_| changed == 0) {
            return Err(explain_not_under_review(state, *id).await?);
        }
    } else {
        let mut after = None;
        loop {
            let selected = ReviewSelection::After(after);
            let review = Review { selected, action: action.clone(), submitter };
            let reviewed = review_step(state, review).await?;
            changed += reviewed.changed.len();
            after = reviewed.next;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(json_response(StatusCode::OK, &Changed { changed: changed as u64, ..Changed::default() }))
}

/// Reviews part of a selection, and announces it once it is on disk.
async fn review_step(state: &ApiState, review: Review) -> Result<ReviewSummary, ApiError> {
    let discarded_by = match &review.action {
        ReviewAction::Retry => None,
        ReviewAction::Discard { by } => Some(by.clone()),
    };
    let state_name = discarded_by.as_ref().map(|_| RecordState::Discarded.name());
    let verb = discarded_by.as_ref().map_or_else(
        || "queued again on request".to_owned(),
        |user| format!("discarded on request of {user}"),
    );
    let _permit = state.review_throttle.acquire().await?;
    let (is_all, is_of_user) =
        (matches!(review.selected, ReviewSelection::After(_)), review.submitter.is_some());
    let reviewed = write(&state.store, review).await?;
    let changed = reviewed.changed.len();
    if is_all && changed > 0 {
        let whose = if is_of_user { " of a user" } else { "" };
        let records = if changed == 1 { "record was" } else { "records were" };
        tracing::info!(
            records = changed,
            state = state_name,
            "review: {changed} {records} {verb} (all{whose})"
        );
    }
    for id in &reviewed.changed {
        if is_all {
            tracing::debug!(record_id = %id, state = state_name, "record {id} was {verb}");
        } else {
            tracing::info!(record_id = %id, state = state_name, "record {id} was {verb}");
        }
        let change = match &discarded_by {
            Some(user) => RecordChange::discarded(*id, user),
            None => RecordChange::queued_again(*id),
        };
        state.event_feed.publish("record", &change);
    }
    Ok(reviewed)
}

async fn explain_not_under_review(state: &ApiState, id: RecordId) -> Result<ApiError, ApiError> {
    let Some(entry) = state.with_view(move |view| view.find_entry(id)).await? else {
        return Ok(ApiError::no_such_record());
    };
    let mut message = "none of these records is QUARANTINED; nothing was changed".to_owned();
    match entry.state {
        RecordState::Synced => {}
        RecordState::Discarded => message += "; a discarded record cannot be brought back",
        _ => message += "; an admin can mark a waiting record for review: fieldsync quarantine add ID",
    }
    Ok(ApiError::new(StatusCode::CONFLICT, "not_quarantined", message))
}

/// Replace the payload of a record under review
///
/// The body is the new payload, a JSON object. The record is queued again. For its submitter and admins.
#[utoipa::path(
    put, path = "/v1/records/{id}/payload", tag = "review", operation_id = "mend",
    params(("id" = String, Path, format = "uuid", description = "The record.")),
    request_body = Object,
    responses((status = 200, description = "The record is queued.", body = ManifestEntry)),
)]
pub(super) async fn replace_payload(
    state: &ApiState,
    peer: &Peer,
    id: &str,
    body: RequestBody,
) -> Result<HttpResponse, ApiError> {
    let id = parse_record_id(id)?;
    require_may_edit(state, peer, id).await?;
    if !state.is_admin(peer) {
        require_no_id_conflict(state, id).await?;
    }
    let body = body.read_all(state).await?;
    let payload = submission::parse_object(&body.bytes)
        .map_err(|reason| ApiError::bad_request("invalid_record", reason))?;
    write(&state.store, ReplacePayload { id, payload }).await??;
    tracing::info!(record_id = %id, "the payload of record {id} was replaced and the record queued again");
    state.event_feed.publish("record", &RecordChange::queued_again(id));
    let entry =
        state.with_view(move |view| view.find_entry(id)).await?.ok_or_else(ApiError::no_such_record)?;
    Ok(json_response(StatusCode::OK, &entry))
}

/// Fails if the server has another record with this id. That may be another user's record, and by editing this one again
/// and again, its submitter could find out the content of that record.
async fn require_no_id_conflict(state: &ApiState, id: RecordId) -> Result<(), ApiError> {
    let error = state.with_view(move |view| view.find_entry(id)).await?.and_then(|entry| entry.last_error);
    let code = error.and_then(|error| error.code);
    if !matches!(code.as_deref(), Some(ID_CONFLICT | ID_OF_OTHER_DEVICE)) {
        return Ok(());
    }
    let message = "the server has another record with this id, and editing this one does not help; nothing was changed; \
                   enqueue the record with a new id, and ask an admin to discard this one";
    Err(ApiError::new(StatusCode::CONFLICT, "id_conflict", message))
}
