//! `GET /v1/openapi.json`: the description of the local API, generated from its handlers and types.
//!
//! It is served from `openapi.json`, because the code that generates it is many times as large; a test compares the two.
//! This file adds what the handlers do not declare: the errors of each call, which calls are for admins, and the data of
//! events.

use hyper::StatusCode;
use serde_json::json;
use utoipa::OpenApi;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::Type;
use utoipa::openapi::{AllOfBuilder, ContentBuilder, HeaderBuilder, ObjectBuilder, Ref};

use super::error::ApiError;
use super::http::{HttpResponse, encoded_json_response};
use super::openapi_examples::add_examples;
use super::state::ApiState;
use super::{batches, control, events, lookup, overview, records, review};
use crate::api::{AlertChange, BatchReport, BreakerChange, ConnectivityStatus, Gap, RecordChange};
use crate::model::ManifestEntry;
use crate::protocol::wire::ErrorBody;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "fieldsync: the local API",
        description = "HTTP/1.1 over the daemon's Unix socket. Times are RFC 3339 in UTC with milliseconds; durations carry \
            their unit in the name (`_ms`, `_s`); sizes are bytes. Fields may be added; what is here stays.\n\n\
            Errors are `{\"error\": {\"code\", \"message\"}}`; if one record of several is at fault, with its `position`. An unknown path \
            gets 404 `not_found`, a method that a path does not take 405 `method_not_allowed`. Requests that are not valid HTTP, or \
            do not arrive in time, get 400, 408 or 431 without a body.\n\n\
            Every process that may open the socket may call. Calls marked `x-admin` need uid 0, the daemon's own uid, or \
            membership in `ipc.admin_group`, as reported by the kernel. The payload, the key and the receipt of a record and the \
            message and field of its error are for the user who enqueued it (its submitter) and for admins; for other users key and \
            receipt are null, the message is empty, and the field is missing.\n\n\
            A user has at most half of the connections, of the event streams and of the memory for large requests; beyond that, any \
            call may get 503 `busy`. Root and the daemon's own user are exempt, and some connections are reserved for them."
    ),
    servers((url = "http://localhost", description = "/run/fieldsync/fieldsync.sock, or the path in ipc.socket")),
    tags(
        (name = "status", description = "Status, events, measurements"),
        (name = "records", description = "Enqueueing records and following them"),
        (name = "review", description = "Records that need review"),
        (name = "control", description = "Control of the daemon"),
    ),
    paths(
        overview::get_status,
        events::stream_events,
        records::enqueue_records,
        records::list_records,
        records::get_record,
        lookup::look_up_records,
        review::replace_payload,
        records::stream_manifest,
        overview::list_batches,
        batches::get_batch,
        control::sync_now,
        control::pause_sync,
        control::resume_sync,
        review::quarantine_records,
        review::retry_records,
        review::discard_records,
        control::acknowledge_alert,
        overview::get_configuration,
        overview::get_telemetry,
        get_openapi,
        overview::get_metrics,
    ),
    components(schemas(
        ErrorBody,
        ManifestEntry,
        BatchReport,
        RecordChange,
        BreakerChange,
        ConnectivityStatus,
        AlertChange,
        Gap
    ))
)]
struct ApiDocument;

/// What [`build_document`] returns.
const DOCUMENT: &str = include_str!("openapi.json");

/// Each event, and the schema of its data.
const EVENT_SCHEMAS: [(&str, &str); 8] = [
    ("status", "Status"),
    ("progress", "Status"),
    ("batch", "BatchReport"),
    ("record", "RecordChange"),
    ("breaker", "BreakerChange"),
    ("connectivity", "Connectivity"),
    ("alert", "AlertChange"),
    ("gap", "Gap"),
];

/// HTTP status and error code.
type ErrorCode = (u16, &'static str);

/// Of calls that ask an actor.
const ACTOR_ERRORS: &[ErrorCode] = &[(503, "stopping")];
/// Of calls that read the store.
const READ_ERRORS: &[ErrorCode] = &[(500, "store_failed"), (503, "stopping"), (503, "disk_failing")];
/// Of calls that write to the store.
const WRITE_ERRORS: &[ErrorCode] =
    &[(500, "store_failed"), (503, "stopping"), (503, "disk_failing"), (507, "disk_full")];
/// Of calls with a body.
const BODY_ERRORS: &[ErrorCode] =
    &[(400, "broken_request"), (408, "request_timeout"), (413, "request_too_large"), (503, "busy")];
/// Of calls for admins.
const ADMIN_ERRORS: &[ErrorCode] = &[(403, "not_permitted")];

fn error_codes_of(operation: &str) -> Vec<ErrorCode> {
    let (own, common): (&[ErrorCode], &[&[ErrorCode]]) = match operation {
        "events" => (&[(400, "invalid_query"), (503, "too_many_streams")], &[]),
        "enqueue" => (
            &[
                (400, "invalid_record"),
                (403, "not_permitted"),
                (409, "id_conflict"),
                (413, "record_too_large"),
                (507, "queue_full"),
            ],
            &[BODY_ERRORS, WRITE_ERRORS],
        ),
        "list" => (&[(400, "invalid_query"), (410, "cursor_expired")], &[READ_ERRORS]),
        "show" => (
            &[
                (400, "invalid_id"),
                (400, "invalid_query"),
                (403, "not_permitted"),
                (404, "no_such_record"),
                (409, "ambiguous_id"),
            ],
            &[READ_ERRORS],
        ),
        "mend" => (
            &[
                (400, "invalid_id"),
                (400, "invalid_record"),
                (403, "not_permitted"),
                (404, "no_such_record"),
                (409, "not_quarantined"),
                (409, "id_conflict"),
                (413, "record_too_large"),
                (507, "queue_full"),
            ],
            &[BODY_ERRORS, WRITE_ERRORS],
        ),
        "look_up" => (&[(400, "invalid_lookup")], &[BODY_ERRORS, READ_ERRORS]),
        "batches" => (&[(400, "invalid_query")], &[ACTOR_ERRORS]),
        "batch" => (
            &[(400, "invalid_id"), (404, "no_such_batch"), (409, "ambiguous_id")],
            &[ACTOR_ERRORS, READ_ERRORS],
        ),
        "manifest" => (&[(400, "invalid_query")], &[]),
        "sync_now" | "telemetry" => (&[], &[ACTOR_ERRORS]),
        "pause" => {
            (&[(400, "invalid_query"), (400, "invalid_pause")], &[ADMIN_ERRORS, BODY_ERRORS, WRITE_ERRORS])
        }
        "resume" => (&[], &[ADMIN_ERRORS, WRITE_ERRORS]),
        "add" => (
            &[
                (400, "invalid_selection"),
                (404, "no_such_record"),
                (409, "already_synced"),
                (409, "already_discarded"),
                (409, "outcome_pending"),
            ],
            &[ADMIN_ERRORS, BODY_ERRORS, WRITE_ERRORS],
        ),
        "retry" => (
            &[
                (400, "invalid_selection"),
                (403, "not_permitted"),
                (404, "no_such_record"),
                (409, "not_quarantined"),
            ],
            &[BODY_ERRORS, WRITE_ERRORS],
        ),
        "discard" => (
            &[
                (400, "invalid_selection"),
                (400, "confirmation_needed"),
                (404, "no_such_record"),
                (409, "not_quarantined"),
            ],
            &[ADMIN_ERRORS, BODY_ERRORS, WRITE_ERRORS],
        ),
        "acknowledge" => (&[(400, "invalid_alert")], &[ADMIN_ERRORS, BODY_ERRORS, WRITE_ERRORS]),
        "open_metrics" => (&[(500, "metrics_failed")], &[]),
        _ => (&[], &[]),
    };
    own.iter().chain(common.iter().copied().flatten()).copied().collect()
}

fn is_for_admins(operation: &str) -> bool {
    matches!(operation, "pause" | "resume" | "add" | "discard" | "acknowledge")
}

/// This document
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "status", operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1.", body = Object)),
)]
pub(super) async fn get_openapi(state: &ApiState) -> Result<HttpResponse, ApiError> {
    let _permit = state.call_throttle.acquire().await?;
    Ok(encoded_json_response(StatusCode::OK, DOCUMENT))
}

#[cfg_attr(not(test), allow(dead_code, reason = "the program has the result"))]
fn build_document() -> utoipa::openapi::OpenApi {
    let mut document = ApiDocument::openapi();
    let operations = document.paths.paths.values_mut().flat_map(|path| {
        let PathItem { get, put, post, .. } = path;
        [get, put, post].into_iter().flatten()
    });
    for operation in operations {
        add_details(operation);
    }
    document
}

fn add_details(operation: &mut Operation) {
    let name = operation.operation_id.clone().unwrap_or_default();
    let errors = error_codes_of(&name);
    let mut statuses: Vec<u16> = errors.iter().map(|(status, _)| *status).collect();
    statuses.sort_unstable();
    statuses.dedup();
    for status in statuses {
        let codes = errors.iter().filter(|(of, _)| *of == status).map(|(_, code)| *code).collect();
        operation.responses.responses.insert(status.to_string(), error_schema(status, codes).into());
    }
    add_examples(operation);
    let mut extensions = Extensions::default();
    if is_for_admins(&name) {
        extensions.insert("x-admin".into(), true.into());
    }
    if name == "events" {
        let schemas = EVENT_SCHEMAS
            .map(|(event, schema)| (event.to_owned(), json!({"$ref": schema_reference(schema)})));
        extensions.insert("x-events".into(), schemas.into_iter().collect());
    }
    if name == "manifest" {
        extensions.insert("x-line".into(), json!({"$ref": schema_reference("ManifestEntry")}));
    }
    if !extensions.is_empty() {
        operation.extensions = Some(extensions);
    }
}

fn schema_reference(schema: &str) -> String {
    format!("#/components/schemas/{schema}")
}

/// The schema of an error with one of these codes.
fn error_schema(status: u16, codes: Vec<&'static str>) -> Response {
    let description = format!("Error: {}.", codes.join(", "));
    let code = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(codes));
    let error = ObjectBuilder::new().property("code", code);
    let schema = AllOfBuilder::new()
        .item(Ref::from_schema_name("ErrorBody"))
        .item(ObjectBuilder::new().property("error", error));
    let mut response = ResponseBuilder::new();
    if matches!(status, 503 | 507) {
        let seconds = ObjectBuilder::new().schema_type(Type::Integer).build();
        response = response.header("Retry-After", HeaderBuilder::new().schema(Some(seconds)).build());
    }
    response
        .description(description)
        .content("application/json", ContentBuilder::new().schema(Some(schema)).build())
        .build()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_served_document_is_the_generated_one() {
        let generated = serde_json::to_string(&build_document()).unwrap();
        if std::env::var_os("FIELDSYNC_WRITE_OPENAPI").is_some() {
            fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/ipc/openapi.json"), generated).unwrap();
            return;
        }
        assert!(
            generated == DOCUMENT,
            "openapi.json is not up to date: FIELDSYNC_WRITE_OPENAPI=1 cargo test --lib the_served_document"
        );
    }
}
