//! Checks requests for the page, and maps their methods and paths to handlers.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, RETRY_AFTER,
    TRANSFER_ENCODING, VARY, WWW_AUTHENTICATE,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use ring::digest::{SHA256, digest};
use serde_json::json;
use tokio::time::timeout;

use super::access_code::{AccessDenied, is_same_code};
use super::identity::{RequestSignature, to_hex};
use super::language::Language;
use super::origin_check::ForeignRequest;
use super::{PageContext, event_stream, view};
use crate::ipc::body::skip_byte_order_mark;
use crate::ipc::control::{resume_as, try_now};
use crate::ipc::error::ApiError;
use crate::ipc::http::{HttpResponse, error_response, json_response, text_response};
use crate::ipc::review::retry_records_of_all;
use crate::ipc::state::ApiState;

/// Room for several hundred ids.
const BODY_BYTES_MAX: u64 = 16 << 10;
/// For reading the body, and again for the change itself.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// A page asks for a proof before anything else, so this path needs no code.
const PROOF_PATH: &str = "/v1/proof";

/// Responds to a request, and adds the headers that protect the page to the response.
pub(super) async fn handle_request(
    context: &PageContext,
    state: &ApiState,
    request: Request<Incoming>,
) -> HttpResponse {
    let (head, body) = request.into_parts();
    let mut response = match check_request(context, &head) {
        Ok(sender) => {
            let response = dispatch_request(context, state, &head, body, sender).await;
            response.unwrap_or_else(|error| error_response(&error))
        }
        Err(rejected) => rejected.into_response(),
    };
    context.document.add_security_headers(response.headers_mut());
    response
}

async fn dispatch_request(
    context: &PageContext,
    state: &ApiState,
    head: &Parts,
    body: Incoming,
    sender: CheckedSender,
) -> Result<HttpResponse, ApiError> {
    let viewer = context.viewer(sender.knows_code);
    match (head.method.as_str(), head.uri.path()) {
        ("GET", "/") => Ok(get_document(context, head)),
        ("GET", PROOF_PATH) => get_proof(context, head),
        ("GET", "/v1/status") => {
            Ok(json_response(StatusCode::OK, &view::page_status(&state.sources, viewer)))
        }
        ("GET", "/v1/events") => event_stream::stream_page_events(context, state, viewer, head.uri.query()),
        ("GET", "/v1/review") => Ok(json_response(StatusCode::OK, &view::list_review(state, viewer).await?)),
        ("POST", "/v1/quarantine/retry") => change(state, PageChange::Retry, body, sender.digest).await,
        ("POST", "/v1/sync") => change(state, PageChange::TryNow, body, sender.digest).await,
        ("POST", "/v1/resume") => change(state, PageChange::Resume, body, sender.digest).await,
        (
            _,
            "/"
            | PROOF_PATH
            | "/v1/status"
            | "/v1/events"
            | "/v1/review"
            | "/v1/quarantine/retry"
            | "/v1/sync"
            | "/v1/resume",
        ) => {
            let message = "this path does not take this method";
            Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message))
        }
        _ => {
            let message = "there is nothing at this path; the page is at /";
            Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", message))
        }
    }
}

/// The page, in the language that the browser prefers.
fn get_document(context: &PageContext, head: &Parts) -> HttpResponse {
    let key = context.identity.issue_page_key(host_of(&head.headers));
    let language = Language::negotiate(&head.headers);
    let mut response =
        text_response("text/html; charset=utf-8", context.document.render_html(language, &key));
    let headers = response.headers_mut();
    headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
    headers.insert(VARY, HeaderValue::from_static("accept-language"));
    response
}

fn get_proof(context: &PageContext, head: &Parts) -> Result<HttpResponse, ApiError> {
    let query = head.uri.query().and_then(|query| query.split_once('&'));
    let proof = query.and_then(|(page, challenge)| {
        let (page, challenge) = (page.strip_prefix("page=")?, challenge.strip_prefix("challenge=")?);
        context.identity.prove(page, challenge, host_of(&head.headers))
    });
    proof.map(|proof| json_response(StatusCode::OK, &proof)).ok_or_else(|| {
        let message = "send page= and challenge=, with 32 hexadecimal digits each";
        ApiError::bad_request("invalid_query", message)
    })
}

/// What people with the code can do.
#[derive(Clone, Copy)]
enum PageChange {
    Retry,
    TryNow,
    Resume,
}

async fn change(
    state: &ApiState,
    what: PageChange,
    body: Incoming,
    digest: Option<String>,
) -> Result<HttpResponse, ApiError> {
    let timed_out = |message| ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message);
    let body = timeout(CHANGE_TIMEOUT, read_body(body, digest))
        .await
        .map_err(|_| timed_out("the request took too long; nothing was changed; try again"))??;
    let change = async {
        match what {
            PageChange::TryNow => {
                try_now(state).await?;
                Ok(json_response(StatusCode::ACCEPTED, &json!({})))
            }
            PageChange::Resume => resume_as(state, "the page").await,
            PageChange::Retry => retry_records_of_all(state, &body).await,
        }
    };
    timeout(CHANGE_TIMEOUT, change)
        .await
        .map_err(|_| timed_out("the request took too long; look at the page before you try again"))?
}

/// Fails if the body does not have the digest that was signed.
async fn read_body(body: Incoming, signed_digest: Option<String>) -> Result<Bytes, ApiError> {
    let body = body.collect().await.map_err(|_| {
        ApiError::bad_request("broken_request", "the request ended early; nothing was changed")
    })?;
    let mut body = body.to_bytes();
    if signed_digest.is_some_and(|signed| to_hex(digest(&SHA256, &body).as_ref()) != signed) {
        let message = "the request differs from the one that the page signed; nothing was changed";
        return Err(ApiError::bad_request("altered_request", message));
    }
    skip_byte_order_mark(&mut body);
    Ok(body)
}

enum RejectedRequest {
    Foreign(ForeignRequest),
    AccessDenied(AccessDenied),
    Invalid(ApiError),
}

/// What the head of a request proves about its sender.
#[derive(Default)]
struct CheckedSender {
    knows_code: bool,
    /// Of the body of a signed request.
    digest: Option<String>,
}

/// Checks the head of a request.
fn check_request(context: &PageContext, head: &Parts) -> Result<CheckedSender, RejectedRequest> {
    let headers = &head.headers;
    let origin = context.hosts.check_origin(&head.method, &head.uri, headers);
    origin.map_err(RejectedRequest::Foreign)?;
    if headers.contains_key(TRANSFER_ENCODING) {
        return Err(RejectedRequest::Invalid(length_required()));
    }
    let is_change = !matches!(head.method, Method::GET | Method::HEAD);
    // The document itself has no data: it asks for the code.
    let is_protected = context.code.is_for_reading() && !["/", PROOF_PATH].contains(&head.uri.path());
    let sender = if is_change || is_protected {
        check_code(context, head).map_err(RejectedRequest::AccessDenied)?
    } else {
        check_voluntary_code(context, head).map_err(RejectedRequest::AccessDenied)?
    };
    if is_change {
        require_small_json(headers).map_err(RejectedRequest::Invalid)?;
    }
    Ok(sender)
}

/// A viewer who has entered the code sees more, also where reading needs none. Where no code can be checked now, the request
/// counts as one without a code.
fn check_voluntary_code(context: &PageContext, head: &Parts) -> Result<CheckedSender, AccessDenied> {
    if !head.headers.contains_key(AUTHORIZATION) {
        return Ok(CheckedSender::default());
    }
    match check_code(context, head) {
        Err(denied @ (AccessDenied::WrongCode | AccessDenied::TicketExpired)) => Err(denied),
        checked => Ok(checked.unwrap_or_default()),
    }
}

/// A page signs its requests with the code; a program sends the code itself.
fn check_code(context: &PageContext, head: &Parts) -> Result<CheckedSender, AccessDenied> {
    let headers = &head.headers;
    let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some(signature) = authorization.and_then(RequestSignature::parse) {
        if !context.identity.has_valid_ticket(&signature) {
            return Err(AccessDenied::TicketExpired);
        }
        let (host, target) = (host_of(headers), (head.method.as_str(), head.uri.path()));
        let is_signed = |code: &str| context.identity.is_signed_with(code, &signature, host, target);
        context.code.check_access(Some(is_signed))?;
        return Ok(CheckedSender { knows_code: true, digest: Some(signature.digest.to_owned()) });
    }
    let given = authorization.and_then(|value| value.strip_prefix("Bearer "));
    context.code.check_access(given.map(|given| move |code: &str| is_same_code(given, code)))?;
    Ok(CheckedSender { knows_code: true, digest: None })
}

/// The address as the browser has it. It was checked before.
fn host_of(headers: &HeaderMap) -> &str {
    headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
}

fn length_required() -> ApiError {
    ApiError::new(StatusCode::LENGTH_REQUIRED, "length_required", "send the length of the body")
}

fn require_small_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let reject = |status, code, message: &str| Err(ApiError::new(status, code, message));
    match header(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok()) {
        None => Err(length_required()),
        Some(length) if length > BODY_BYTES_MAX => {
            let message = format!("the request is larger than {BODY_BYTES_MAX} bytes; nothing was changed");
            reject(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", &message)
        }
        Some(_) if header(CONTENT_TYPE) != Some("application/json") => {
            reject(StatusCode::UNSUPPORTED_MEDIA_TYPE, "json_needed", "send Content-Type: application/json")
        }
        Some(_) => Ok(()),
    }
}

impl RejectedRequest {
    fn into_response(self) -> HttpResponse {
        let (status, code, message) = match &self {
            Self::Invalid(error) => return error_response(error),
            Self::Foreign(ForeignRequest::WrongHost) => (
                StatusCode::MISDIRECTED_REQUEST,
                "wrong_host",
                "this is not the address of the page: open the address in web.listen",
            ),
            Self::Foreign(ForeignRequest::OtherSite) => (
                StatusCode::FORBIDDEN,
                "other_site",
                "this request comes from another site: only the page itself may send it",
            ),
            Self::AccessDenied(AccessDenied::ReadOnly) => (
                StatusCode::FORBIDDEN,
                "read_only",
                "nothing can be changed here: use the command fieldsync, or set web.token_file",
            ),
            Self::AccessDenied(AccessDenied::CodeUnusable) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "code_unusable",
                "the file with the code cannot be used; the journal says why: journalctl -u fieldsync",
            ),
            Self::AccessDenied(AccessDenied::WrongCode) => {
                (StatusCode::UNAUTHORIZED, "wrong_code", "this needs the code in the file web.token_file")
            }
            Self::AccessDenied(AccessDenied::TicketExpired) => (
                StatusCode::UNAUTHORIZED,
                "proof_expired",
                "the proof of the daemon is too old: the page has to ask for a new one; nothing was changed",
            ),
            Self::AccessDenied(AccessDenied::TooManyWrongCodes { .. }) => (
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_wrong_codes",
                "too many wrong codes were entered: no code is accepted for some seconds",
            ),
        };
        let mut response = error_response(&ApiError::new(status, code, message));
        let headers = response.headers_mut();
        match self {
            Self::AccessDenied(AccessDenied::WrongCode) => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::AccessDenied(AccessDenied::TooManyWrongCodes { retry_after }) => {
                headers.insert(RETRY_AFTER, retry_after.as_secs().saturating_add(1).into());
            }
            _ => {}
        }
        response
    }
}
