//! What there is under the page's address, and what every request must pass first.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, RETRY_AFTER,
    TRANSFER_ENCODING, WWW_AUTHENTICATE,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use ring::digest::{SHA256, digest};
use tokio::time::timeout;

use super::code::{Locked, is_same_code};
use super::guard::Stranger;
use super::identity::{Signature, to_hex};
use super::{Site, live, view};
use crate::ipc::body::skip_byte_order_mark;
use crate::ipc::error::ApiError;
use crate::ipc::http::{self, Response};
use crate::ipc::review;
use crate::ipc::state::Shared;

/// A selection of records is no larger than some hundred ids.
const MAX_BODY: u64 = 16 << 10;
/// For the body to come, and for the store to do it.
const CHANGE_LIMIT: Duration = Duration::from_secs(10);

/// Where a page asks for a proof before anything else; so this takes no code.
const PROOF_PATH: &str = "/v1/proof";

/// Hears a request or refuses it, and gives every response what protects it in a browser.
pub(super) async fn respond(site: &Site, shared: &Shared, request: Request<Incoming>) -> Response {
    let (head, body) = request.into_parts();
    let mut response = match admit(site, &head) {
        Ok(digest) => route(site, shared, &head, body, digest).await.unwrap_or_else(|error| error.response()),
        Err(refusal) => refusal.response(),
    };
    site.page.protect(response.headers_mut());
    response
}

async fn route(
    site: &Site,
    shared: &Shared,
    head: &Parts,
    body: Incoming,
    digest: Option<String>,
) -> Result<Response, ApiError> {
    match (head.method.as_str(), head.uri.path()) {
        ("GET", "/") => {
            let key = site.identity.issue_page_key(host(&head.headers));
            Ok(http::text("text/html; charset=utf-8", site.page.html(&key)))
        }
        ("GET", PROOF_PATH) => proof(site, head),
        ("GET", "/v1/status") => {
            Ok(http::json(StatusCode::OK, &view::status(&shared.board, site.audience())))
        }
        ("GET", "/v1/events") => live::events(site, shared),
        ("GET", "/v1/review") => {
            Ok(http::json(StatusCode::OK, &view::review(shared, site.audience()).await?))
        }
        ("POST", "/v1/quarantine/retry") => retry(shared, body, digest).await,
        (_, "/" | PROOF_PATH | "/v1/status" | "/v1/events" | "/v1/review" | "/v1/quarantine/retry") => {
            let message = "this path does not take this method";
            Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message))
        }
        _ => {
            let message = "there is nothing at this path; the page is at /";
            Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", message))
        }
    }
}

fn proof(site: &Site, head: &Parts) -> Result<Response, ApiError> {
    let asked = head.uri.query().and_then(|query| query.split_once('&'));
    let proof = asked.and_then(|(page, challenge)| {
        let (page, challenge) = (page.strip_prefix("page=")?, challenge.strip_prefix("challenge=")?);
        site.identity.prove(page, challenge, host(&head.headers))
    });
    proof.map(|proof| http::json(StatusCode::OK, &proof)).ok_or_else(|| {
        let message = "ask with page= and challenge=, 32 hexadecimal digits each";
        ApiError::bad_request("invalid_query", message)
    })
}

async fn retry(shared: &Shared, body: Incoming, digest: Option<String>) -> Result<Response, ApiError> {
    let late = |message| ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message);
    let body = timeout(CHANGE_LIMIT, read(body, digest))
        .await
        .map_err(|_| late("the request took too long; nothing was changed; try again"))??;
    timeout(CHANGE_LIMIT, review::retry_any(shared, &body))
        .await
        .map_err(|_| late("the request took too long; try again what is still under review"))?
}

/// Reads the body, which must be the one that was signed.
async fn read(body: Incoming, signed: Option<String>) -> Result<Bytes, ApiError> {
    let body = body
        .collect()
        .await
        .map_err(|_| ApiError::bad_request("broken_request", "the request broke off; nothing was changed"))?;
    let mut body = body.to_bytes();
    if signed.is_some_and(|signed| to_hex(digest(&SHA256, &body).as_ref()) != signed) {
        let message = "the request is another one than the page has signed; nothing was changed";
        return Err(ApiError::bad_request("altered_request", message));
    }
    skip_byte_order_mark(&mut body);
    Ok(body)
}

/// Why a request is not heard.
enum Refusal {
    Stranger(Stranger),
    Locked(Locked),
    Unfit(ApiError),
}

/// Admits a request by its head. Gives the digest that its body has to have, if the request is signed.
fn admit(site: &Site, head: &Parts) -> Result<Option<String>, Refusal> {
    let headers = &head.headers;
    site.hosts.admit(&head.method, &head.uri, headers).map_err(Refusal::Stranger)?;
    if headers.contains_key(TRANSFER_ENCODING) {
        return Err(Refusal::Unfit(without_length()));
    }
    let changes = !matches!(head.method, Method::GET | Method::HEAD);
    // The page itself says nothing: it asks for the code.
    let is_secret = site.code.is_for_reading() && !["/", PROOF_PATH].contains(&head.uri.path());
    let digest = if changes || is_secret { unlock(site, head).map_err(Refusal::Locked)? } else { None };
    if !changes {
        return Ok(None);
    }
    is_small_json(headers).map_err(Refusal::Unfit)?;
    Ok(digest)
}

/// Lets the request through if its sender knows the code: a page signs with it, a program sends it.
fn unlock(site: &Site, head: &Parts) -> Result<Option<String>, Locked> {
    let headers = &head.headers;
    let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some(signature) = authorization.and_then(Signature::parse) {
        if !site.identity.has_valid_ticket(&signature) {
            return Err(Locked::Expired);
        }
        let target = (head.method.as_str(), head.uri.path());
        site.code
            .open(Some(|code: &str| site.identity.is_signed_with(code, &signature, host(headers), target)))?;
        return Ok(Some(signature.digest.to_owned()));
    }
    let given = authorization.and_then(|value| value.strip_prefix("Bearer "));
    site.code.open(given.map(|given| move |code: &str| is_same_code(given, code)))?;
    Ok(None)
}

/// As the browser has it; the guard has admitted it.
fn host(headers: &HeaderMap) -> &str {
    headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
}

fn without_length() -> ApiError {
    ApiError::new(StatusCode::LENGTH_REQUIRED, "length_required", "send the length of the body")
}

fn is_small_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let refuse = |status, code, message: &str| Err(ApiError::new(status, code, message));
    match header(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok()) {
        None => Err(without_length()),
        Some(length) if length > MAX_BODY => {
            let message = format!("the request is larger than {MAX_BODY} bytes; nothing was changed");
            refuse(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", &message)
        }
        Some(_) if header(CONTENT_TYPE) != Some("application/json") => {
            refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "json_needed", "send Content-Type: application/json")
        }
        Some(_) => Ok(()),
    }
}

impl Refusal {
    fn response(&self) -> Response {
        let (status, code, message) = match self {
            Self::Unfit(error) => return error.response(),
            Self::Stranger(Stranger::Host) => (
                StatusCode::MISDIRECTED_REQUEST,
                "wrong_host",
                "this address is not the page's: open it by the one that web.listen has",
            ),
            Self::Stranger(Stranger::Site) => (
                StatusCode::FORBIDDEN,
                "other_site",
                "another site has sent this request: only the page itself may",
            ),
            Self::Locked(Locked::ReadOnly) => (
                StatusCode::FORBIDDEN,
                "read_only",
                "nothing can be changed here: use fieldsync quarantine retry, or set web.token_file",
            ),
            Self::Locked(Locked::Unusable) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "code_unusable",
                "the file with the code cannot be used; why is in the journal: journalctl -u fieldsync",
            ),
            Self::Locked(Locked::Wrong) => {
                (StatusCode::UNAUTHORIZED, "wrong_code", "this needs the code that web.token_file holds")
            }
            Self::Locked(Locked::Expired) => (
                StatusCode::UNAUTHORIZED,
                "proof_expired",
                "the daemon was asked for a proof too long ago: the page has to ask again; nothing was changed",
            ),
            Self::Locked(Locked::TooMany { .. }) => (
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_wrong_codes",
                "too many wrong codes were entered: none is taken for some seconds",
            ),
        };
        let mut response = ApiError::new(status, code, message).response();
        let headers = response.headers_mut();
        match self {
            Self::Locked(Locked::Wrong) => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::Locked(Locked::TooMany { wait }) => {
                headers.insert(RETRY_AFTER, wait.as_secs().saturating_add(1).into());
            }
            _ => {}
        }
        response
    }
}
