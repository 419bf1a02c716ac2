//! What there is under the page's address, and what every request must pass first.

use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, RETRY_AFTER,
    TRANSFER_ENCODING, WWW_AUTHENTICATE,
};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{HttpRequest, HttpResponse, Resource, ResponseError, web};
use bytes::Bytes;
use ring::digest::{SHA256, digest};

use super::code::{Locked, is_same_code};
use super::guard::Stranger;
use super::identity::{Signature, to_hex};
use super::{Site, live, view};
use crate::ipc::body::Incoming;
use crate::ipc::error::ApiError;
use crate::ipc::patience::{Answer, Turn, take_turn};
use crate::ipc::review;
use crate::ipc::server::Shared;

/// A selection of records is no larger than some hundred ids.
const MAX_BODY: u64 = 16 << 10;
/// For the body to come, and the store to do it.
const CHANGE_LIMIT: Duration = Duration::from_secs(10);

/// Where a page asks for a proof before anything else; so this takes no code.
const PROOF_PATH: &str = "/v1/proof";

pub(super) fn routes(config: &mut web::ServiceConfig) {
    let resource = |path: &str| -> Resource {
        web::resource(path).default_service(web::to(|| {
            refused(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this path does not take this method",
            )
        }))
    };
    config
        .service(resource("/").route(web::get().to(page)))
        .service(resource(PROOF_PATH).route(web::get().to(proof)))
        .service(resource("/v1/status").route(web::get().to(status)))
        .service(resource("/v1/events").route(web::get().to(live::events)))
        .service(resource("/v1/review").route(web::get().to(review)))
        .service(resource("/v1/quarantine/retry").route(web::post().to(retry)))
        .default_service(web::to(|| {
            refused(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path; the page is at /")
        }));
}

async fn refused(status: StatusCode, code: &str, message: &str) -> Result<HttpResponse, ApiError> {
    std::future::ready(Err(ApiError::new(status, code, message))).await
}

async fn page(site: web::Data<Site>, request: HttpRequest) -> HttpResponse {
    let key = site.identity.issue_page_key(host(request.headers()));
    let response = HttpResponse::Ok().content_type("text/html; charset=utf-8").body(site.page.html(&key));
    std::future::ready(response).await
}

async fn proof(site: web::Data<Site>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let asked = request.query_string().split_once('&');
    let proof = asked.and_then(|(page, challenge)| {
        let (page, challenge) = (page.strip_prefix("page=")?, challenge.strip_prefix("challenge=")?);
        site.identity.prove(page, challenge, host(request.headers()))
    });
    let response = proof.map(|proof| HttpResponse::Ok().json(proof)).ok_or_else(|| {
        let message = "ask with page= and challenge=, 32 hexadecimal digits each";
        ApiError::bad_request("invalid_query", message)
    });
    std::future::ready(response).await
}

async fn status(site: web::Data<Site>, shared: web::Data<Shared>) -> HttpResponse {
    std::future::ready(HttpResponse::Ok().json(view::status(&shared.board, site.audience()))).await
}

async fn review(site: web::Data<Site>, shared: web::Data<Shared>) -> Result<HttpResponse, ApiError> {
    let review = view::review(&shared, site.audience()).await?;
    Ok(HttpResponse::Ok().json(review))
}

async fn retry(shared: web::Data<Shared>, incoming: Incoming) -> Result<HttpResponse, ApiError> {
    tokio::time::timeout(CHANGE_LIMIT, review::retry_any(shared, incoming)).await.unwrap_or_else(|_| {
        let message = "the request took too long; try again what is still under review";
        Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message))
    })
}

/// Hears a request or refuses it, and gives every answer what protects it in a browser.
pub(super) async fn guarded(
    site: web::Data<Site>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<Answer>, actix_web::Error> {
    let ours = take_turn(request.conn_data::<Turn>().cloned()).await;
    let admitted = match admit(&site, &request) {
        Ok(Some(digest)) => check_body(request, &digest).await,
        Ok(None) => Ok(request),
        Err(refusal) => Err((request, refusal)),
    };
    let mut response = match admitted {
        Ok(request) => next.call(request).await?.map_into_boxed_body(),
        Err((request, refusal)) => request.into_response(refusal.response()),
    };
    site.page.protect(response.headers_mut());
    Ok(response.map_body(|_, body| Answer::new(body, ours)))
}

/// Why a request is not heard.
enum Refusal {
    Stranger(Stranger),
    Locked(Locked),
    Unfit(ApiError),
}

/// Admits a request by its head. Gives the digest that its body has to have, if the request is signed.
fn admit(site: &Site, request: &ServiceRequest) -> Result<Option<String>, Refusal> {
    let headers = request.headers();
    site.hosts.admit(request.method(), request.uri(), headers).map_err(Refusal::Stranger)?;
    if headers.contains_key(TRANSFER_ENCODING) {
        return Err(Refusal::Unfit(without_length()));
    }
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    // The page itself says nothing: it asks for the code.
    let is_secret = site.code.is_for_reading() && !["/", PROOF_PATH].contains(&request.path());
    let digest = if changes || is_secret { unlock(site, request).map_err(Refusal::Locked)? } else { None };
    if !changes {
        return Ok(None);
    }
    is_small_json(headers).map_err(Refusal::Unfit)?;
    Ok(digest)
}

/// Lets the request through if its sender knows the code: a page signs with it, a program sends it.
fn unlock(site: &Site, request: &ServiceRequest) -> Result<Option<String>, Locked> {
    let headers = request.headers();
    let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some(signature) = authorization.and_then(Signature::parse) {
        if !site.identity.has_valid_ticket(&signature) {
            return Err(Locked::Expired);
        }
        let target = (request.method().as_str(), request.path());
        site.code
            .open(Some(|code: &str| site.identity.is_signed_with(code, &signature, host(headers), target)))?;
        return Ok(Some(signature.digest.to_owned()));
    }
    let given = authorization.and_then(|value| value.strip_prefix("Bearer "));
    site.code.open(given.map(|given| move |code: &str| is_same_code(given, code)))?;
    Ok(None)
}

/// Reads the body, which must be the one that was signed.
async fn check_body(
    mut request: ServiceRequest,
    signed: &str,
) -> Result<ServiceRequest, (ServiceRequest, Refusal)> {
    let refused = |status, code, message| Refusal::Unfit(ApiError::new(status, code, message));
    match tokio::time::timeout(CHANGE_LIMIT, request.extract::<Bytes>()).await {
        Ok(Ok(body)) if to_hex(digest(&SHA256, &body).as_ref()) == signed => {
            request.set_payload(Payload::from(body));
            Ok(request)
        }
        Ok(Ok(_)) => {
            let message = "the request is another one than the page has signed; nothing was changed";
            Err((request, refused(StatusCode::BAD_REQUEST, "altered_request", message)))
        }
        Ok(Err(_)) => {
            let message = "the request broke off; nothing was changed";
            Err((request, refused(StatusCode::BAD_REQUEST, "broken_request", message)))
        }
        Err(_) => {
            let message = "the request took too long; nothing was changed; try again";
            Err((request, refused(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)))
        }
    }
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
    fn response(&self) -> HttpResponse {
        let (status, code, message) = match self {
            Self::Unfit(error) => return error.error_response(),
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
        let mut response = ApiError::new(status, code, message).error_response();
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
