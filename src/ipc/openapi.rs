//! `GET /v1/openapi.json`: the local API as a document, made from the handlers and the types that answer.
//!
//! It is put together when somebody asks for it for the first time, and costs nothing before. What the handlers do not say
//! themselves stands here: which refusals a call may meet, who may call it, and the data of events.

use std::sync::OnceLock;

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::json;
use utoipa::OpenApi;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::Type;
use utoipa::openapi::{AllOfBuilder, ContentBuilder, ObjectBuilder, Ref};

use super::error::ApiError;
use super::http;
use super::state::Shared;
use super::{events, overview, records, review};
use crate::api::{Alert, BatchReport, BreakerChange, Connectivity, Gap, RecordChange};
use crate::model::ManifestEntry;
use crate::protocol::wire::ErrorBody;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "fieldsync: the local API",
        description = "HTTP/1.1 over the daemon's Unix socket. Times are RFC 3339 in UTC with milliseconds; durations carry \
            their unit in the name (`_ms`, `_s`); sizes are bytes. Fields may be added; what is here stays.\n\n\
            Refusals are `{\"error\": {\"code\", \"message\"}}`, those of one record of several with its `position`. An unknown path is \
            refused with 404 `not_found`, a method that a path does not take with 405 `method_not_allowed`; what is no HTTP \
            at all, or does not come in time, with 400, 408 or 431 and no body.\n\n\
            Whoever may open the socket may call; what is marked `x-admin` needs uid 0, the daemon's own uid, or \
            membership in `ipc.admin_group`, as told by the kernel. The payload and the key of a record and the message of its \
            error are for the user who handed it over (its submitter) and for admins; to others, a key is null and a message \
            is empty.\n\n\
            A user has at most half of the connections, of the event streams and of the memory for large requests; beyond that any \
            call may be refused with 503 `busy`. Root and the daemon's own user are not limited so, and some connections are \
            kept for them."
    ),
    servers((url = "http://localhost", description = "/run/fieldsync/fieldsync.sock, or wherever ipc.socket says")),
    tags(
        (name = "status", description = "How things are"),
        (name = "records", description = "Handing records over, and what became of them"),
        (name = "review", description = "Records that were set aside"),
        (name = "control", description = "Steering"),
    ),
    paths(
        overview::status,
        events::events,
        records::enqueue,
        records::list,
        records::show,
        review::mend,
        records::manifest,
        overview::batches,
        review::sync_now,
        review::pause,
        review::resume,
        review::add,
        review::retry,
        review::discard,
        review::acknowledge,
        overview::telemetry,
        openapi,
        overview::open_metrics,
    ),
    components(schemas(
        ErrorBody,
        ManifestEntry,
        BatchReport,
        RecordChange,
        BreakerChange,
        Connectivity,
        Alert,
        Gap
    ))
)]
struct Document;

/// The data of each event.
const EVENTS: [(&str, &str); 8] = [
    ("status", "Status"),
    ("progress", "Status"),
    ("batch", "BatchReport"),
    ("record", "RecordChange"),
    ("breaker", "BreakerChange"),
    ("connectivity", "Connectivity"),
    ("alert", "Alert"),
    ("gap", "Gap"),
];

/// Status, and the code of the error.
type Refusal = (u16, &'static str);

/// Of every call that asks an actor.
const ASKED: &[Refusal] = &[(503, "stopping")];
/// Of every call that reads the store.
const READ: &[Refusal] = &[(500, "store_failed"), (503, "stopping"), (503, "disk_failing")];
/// Of every call that writes to it.
const WRITTEN: &[Refusal] =
    &[(500, "store_failed"), (503, "stopping"), (503, "disk_failing"), (507, "disk_full")];
/// Of every call with a body.
const BODY: &[Refusal] =
    &[(400, "broken_request"), (408, "request_timeout"), (413, "request_too_large"), (503, "busy")];
/// Of every admin's call.
const ADMIN: &[Refusal] = &[(403, "not_permitted")];

/// What an operation may be refused with.
fn refusals(operation: &str) -> Vec<Refusal> {
    let (own, common): (&[Refusal], &[&[Refusal]]) = match operation {
        "events" => (&[(400, "invalid_query"), (503, "too_many_streams")], &[]),
        "enqueue" => (
            &[
                (400, "invalid_record"),
                (403, "not_permitted"),
                (409, "id_conflict"),
                (413, "record_too_large"),
                (507, "queue_full"),
            ],
            &[BODY, WRITTEN],
        ),
        "list" => (&[(400, "invalid_query")], &[READ]),
        "show" => (
            &[(400, "invalid_id"), (400, "invalid_query"), (403, "not_permitted"), (404, "no_such_record")],
            &[READ],
        ),
        "mend" => (
            &[
                (400, "invalid_id"),
                (400, "invalid_record"),
                (403, "not_permitted"),
                (404, "no_such_record"),
                (409, "not_quarantined"),
                (413, "record_too_large"),
                (507, "queue_full"),
            ],
            &[BODY, WRITTEN],
        ),
        "batches" => (&[(400, "invalid_query")], &[ASKED]),
        "manifest" => (&[(400, "invalid_query")], &[]),
        "sync_now" | "telemetry" => (&[], &[ASKED]),
        "pause" | "resume" => (&[], &[ADMIN, WRITTEN]),
        "add" => (
            &[
                (400, "invalid_selection"),
                (404, "no_such_record"),
                (409, "already_synced"),
                (409, "outcome_pending"),
            ],
            &[ADMIN, BODY, WRITTEN],
        ),
        "retry" => (
            &[
                (400, "invalid_selection"),
                (403, "not_permitted"),
                (404, "no_such_record"),
                (409, "not_quarantined"),
            ],
            &[BODY, WRITTEN],
        ),
        "discard" => (
            &[
                (400, "invalid_selection"),
                (400, "confirmation_needed"),
                (404, "no_such_record"),
                (409, "not_quarantined"),
            ],
            &[ADMIN, BODY, WRITTEN],
        ),
        "acknowledge" => (&[(400, "invalid_alert")], &[ADMIN, BODY, WRITTEN]),
        "open_metrics" => (&[(500, "metrics_failed")], &[]),
        _ => (&[], &[]),
    };
    own.iter().chain(common.iter().copied().flatten()).copied().collect()
}

/// Calls that are for admins.
fn is_for_admins(operation: &str) -> bool {
    matches!(operation, "pause" | "resume" | "add" | "discard" | "acknowledge")
}

/// This document
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "status",
    responses((status = 200, description = "OpenAPI 3.1.", body = Object)),
)]
pub(super) async fn openapi(shared: &Shared) -> Result<http::Response, ApiError> {
    static WRITTEN: OnceLock<serde_json::Result<Bytes>> = OnceLock::new();
    let _turn = shared.turns.take().await?;
    match WRITTEN.get_or_init(|| serde_json::to_vec(&document()).map(Bytes::from)) {
        Ok(json) => Ok(http::json_bytes(StatusCode::OK, json.clone())),
        Err(error) => Err(ApiError::cannot_write(error)),
    }
}

fn document() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    let operations = document.paths.paths.values_mut().flat_map(|path| {
        let PathItem { get, put, post, .. } = path;
        [get, put, post].into_iter().flatten()
    });
    for operation in operations {
        complete(operation);
    }
    document
}

fn complete(operation: &mut Operation) {
    let name = operation.operation_id.clone().unwrap_or_default();
    let refusals = refusals(&name);
    let mut statuses: Vec<u16> = refusals.iter().map(|(status, _)| *status).collect();
    statuses.sort_unstable();
    statuses.dedup();
    for status in statuses {
        let codes = refusals.iter().filter(|(of, _)| *of == status).map(|(_, code)| *code).collect();
        operation.responses.responses.insert(status.to_string(), refused(codes).into());
    }
    let mut extensions = Extensions::default();
    if is_for_admins(&name) {
        extensions.insert("x-admin".into(), true.into());
    }
    if name == "events" {
        let schemas = EVENTS.map(|(event, schema)| (event.to_owned(), json!({"$ref": reference(schema)})));
        extensions.insert("x-events".into(), schemas.into_iter().collect());
    }
    if name == "manifest" {
        extensions.insert("x-line".into(), json!({"$ref": reference("ManifestEntry")}));
    }
    if !extensions.is_empty() {
        operation.extensions = Some(extensions);
    }
}

fn reference(schema: &str) -> String {
    format!("#/components/schemas/{schema}")
}

/// The shape of every refusal, with the codes that may stand in it.
fn refused(codes: Vec<&'static str>) -> Response {
    let description = format!("Refused: {}.", codes.join(", "));
    let code = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(codes));
    let error = ObjectBuilder::new().property("code", code);
    let schema = AllOfBuilder::new()
        .item(Ref::from_schema_name("ErrorBody"))
        .item(ObjectBuilder::new().property("error", error));
    ResponseBuilder::new()
        .description(description)
        .content("application/json", ContentBuilder::new().schema(Some(schema)).build())
        .build()
}
