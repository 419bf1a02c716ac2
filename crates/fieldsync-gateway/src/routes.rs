//! The routes: what a request needs to be heard, and what it is answered.
//!
//! Nothing of a body is read before its sender is known to be let in and its headers are in order.
//! Every answer names the encodings that are taken.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, RETRY_AFTER,
};
use actix_web::middleware::DefaultHeaders;
use actix_web::web::{self, Bytes, BytesMut, Data, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use serde::Serialize;
use tokio::time::timeout;

use super::applied_entry::AppliedRecord;
use super::batch_processor::{Desk, Finished, Outcome, Submitted};
use super::batch_validation::{self, ACCEPTED_ENCODINGS, Headers};
use super::fault_injection::{Fate, Faults};
use super::ledger::{Application, LedgerError, PageLimit, Settled};
use super::metrics::{self, Metrics};
use super::request_error::{RETRY_AFTER_SECONDS, Refusal};
use super::token_file::{Scope, TokenFile};
use crate::causes::with_causes;
use crate::model::BatchId;
use crate::protocol::wire::{BATCH_ID, BatchAnswer, DEVICE_ID, Processing, ProcessingState};

/// A body of which nothing arrives for so long is given up.
const BODY_PAUSE: Duration = Duration::from_secs(30);
/// What `GET /ledger` holds in memory at a time.
const LEDGER_PAGE: PageLimit = PageLimit { rows: 500, bytes: 1 << 20 };
const HEALTH_PATH: &str = "/healthz";
const METRICS_PATH: &str = "/metrics";
const LEDGER_PATH: &str = "/ledger";
/// Where the batch endpoint cannot be.
pub(crate) const OWN_PATHS: [&str; 3] = [HEALTH_PATH, METRICS_PATH, LEDGER_PATH];
const SCHEME: &[u8] = b"Bearer ";
const HTML: &str = "text/html";
const NDJSON: &str = "application/x-ndjson";
/// What proxies say, in the words of the best known one.
const GATEWAY_TIMEOUT: &str = "<html>\r\n<head><title>504 Gateway Time-out</title></head>\r\n\
    <body>\r\n<center><h1>504 Gateway Time-out</h1></center>\r\n</body>\r\n</html>\r\n";

/// What the routes share.
pub(crate) struct Service {
    pub(crate) desk: Arc<Desk>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) faults: Faults,
    /// When a bearer token is needed.
    pub(crate) tokens: Option<Arc<TokenFile>>,
    pub(crate) max_body: usize,
}

/// Lays the routes, the batch endpoint at `path`.
pub(crate) fn routes(config: &mut ServiceConfig, service: &Arc<Service>, path: &str) {
    let batches = web::scope(path)
        .service(
            web::resource("")
                .route(web::post().to(post_batch))
                .default_service(web::to(async || Refusal::Method("POST").error_response())),
        )
        .service(
            web::resource("/{batch_id}")
                .route(web::get().to(look_up))
                .default_service(web::to(async || Refusal::Method("GET").error_response())),
        );
    config
        .app_data(Data::from(Arc::clone(service)))
        .route(HEALTH_PATH, web::get().to(health))
        .route(METRICS_PATH, web::get().to(metrics_text))
        .route(LEDGER_PATH, web::get().to(ledger))
        .service(batches)
        .default_service(web::to(async || Refusal::NoSuchPath.error_response()));
}

/// What every answer carries.
pub(crate) fn common_headers() -> DefaultHeaders {
    DefaultHeaders::new().add((ACCEPT_ENCODING, ACCEPTED_ENCODINGS))
}

async fn post_batch(request: HttpRequest, payload: Payload, service: Data<Service>) -> HttpResponse {
    let response =
        service.take_batch(&request, payload).await.unwrap_or_else(|refusal| refused(&request, &refusal));
    service.metrics.batch_answered(response.status());
    response
}

async fn look_up(request: HttpRequest, id: web::Path<String>, service: Data<Service>) -> HttpResponse {
    let response = service.look_up(&request, &id).await.unwrap_or_else(|refusal| refusal.error_response());
    service.metrics.looked_up(response.status());
    response
}

async fn health(service: Data<Service>) -> HttpResponse {
    match service.desk.probe().await {
        Ok(()) => HttpResponse::Ok().json(Health { status: "ok" }),
        Err(error) => {
            tracing::error!(error = with_causes(&error), "the ledger does not answer");
            HttpResponse::ServiceUnavailable().json(Health { status: "ledger_unavailable" })
        }
    }
}

async fn metrics_text(service: Data<Service>) -> HttpResponse {
    match service.metrics.text() {
        Ok(text) => HttpResponse::Ok().content_type(metrics::CONTENT_TYPE).body(text),
        Err(_) => HttpResponse::InternalServerError().finish(),
    }
}

async fn ledger(request: HttpRequest, service: Data<Service>) -> Result<HttpResponse, Refusal> {
    if service.authorize(request.headers())? != Scope::AnyDevice {
        return Err(Refusal::DeviceToken);
    }
    let lines = ledger_lines(Arc::clone(&service.desk));
    Ok(HttpResponse::Ok().content_type(NDJSON).streaming(lines))
}

impl Service {
    async fn take_batch(&self, request: &HttpRequest, payload: Payload) -> Result<HttpResponse, Refusal> {
        let scope = self.authorize(request.headers())?;
        let headers = Headers::read(request.headers())?;
        if !scope.covers(headers.device) {
            return Err(Refusal::OtherDevice(headers.device));
        }
        let body = self.body(request.headers(), payload).await?;
        let (limit, faults) = (self.max_body, self.faults.clone());
        let batch = web::block(move || batch_validation::check(&body, &headers, limit, &faults))
            .await
            .map_err(|error| LedgerError::Storage(error.into()))??;
        match self.faults.fate() {
            Fate::Heard => {}
            Fate::Unheard => {
                // Whatever comes of it, nobody hears it.
                drop(self.desk.submit(batch));
                return Ok(gateway_timeout(&headers));
            }
            Fate::Lost => return Ok(gateway_timeout(&headers)),
        }
        let id = batch.id;
        let task = match self.desk.submit(batch) {
            Submitted::Begun(task) => task,
            Submitted::Processing => return Err(Refusal::Processing(id)),
            Submitted::Reused => return Err(Refusal::Reused(id)),
            Submitted::Busy => return Err(Refusal::Busy),
        };
        let ended = match self.faults.time_limit {
            None => task.await,
            // What is dropped here is the waiting: the work goes on.
            Some(limit) => match timeout(limit, task).await {
                Ok(ended) => ended,
                Err(_) => return Ok(gateway_timeout(&headers)),
            },
        };
        match ended.map_err(|error| LedgerError::Storage(error.into()))?? {
            Finished::Settled(Settled::Fresh(answer) | Settled::Replayed(answer)) => Ok(answered(&answer)),
            Finished::Settled(Settled::Reused) => Err(Refusal::Reused(id)),
            Finished::Elsewhere => Err(Refusal::Processing(id)),
            Finished::Abandoned => Ok(gateway_timeout(&headers)),
        }
    }

    async fn look_up(&self, request: &HttpRequest, id: &str) -> Result<HttpResponse, Refusal> {
        if self.faults.no_lookup {
            return Ok(HttpResponse::NotFound().content_type("text/plain").body("Not Found\n"));
        }
        let scope = self.authorize(request.headers())?;
        let device = batch_validation::device(request.headers())?;
        if !scope.covers(device) {
            return Err(Refusal::OtherDevice(device));
        }
        let batch_id: BatchId = id.parse().map_err(|_| Refusal::NoBatchId(id.into()))?;
        match self.desk.outcome(device, batch_id).await? {
            Outcome::Answered(answer) => Ok(answered(&answer)),
            Outcome::Processing => Ok(HttpResponse::Accepted()
                .insert_header((RETRY_AFTER, RETRY_AFTER_SECONDS))
                .json(Processing { batch_id, state: ProcessingState::Processing })),
            Outcome::Unknown => Err(Refusal::UnknownBatch(batch_id)),
        }
    }

    /// In the name of which devices the sender may speak.
    fn authorize(&self, headers: &HeaderMap) -> Result<Scope, Refusal> {
        let Some(tokens) = &self.tokens else {
            return Ok(Scope::AnyDevice);
        };
        let shown = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.as_bytes().split_at_checked(SCHEME.len()))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME))
            .map(|(_, token)| token)
            .ok_or(Refusal::Unauthorized)?;
        tokens.scope_of(shown.trim_ascii()).ok_or(Refusal::Unauthorized)
    }

    async fn body(&self, headers: &HeaderMap, mut payload: Payload) -> Result<Bytes, Refusal> {
        let limit = self.max_body;
        let announced = headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse::<usize>().ok());
        if announced.is_some_and(|length| length > limit) {
            return Err(Refusal::TooLarge { limit });
        }
        let mut body = BytesMut::with_capacity(announced.unwrap_or(0));
        loop {
            let chunk = match timeout(BODY_PAUSE, payload.next()).await {
                Ok(Some(Ok(chunk))) => chunk,
                Ok(Some(Err(_))) => return Err(Refusal::Interrupted),
                Ok(None) => return Ok(body.freeze()),
                Err(_) => return Err(Refusal::Slow),
            };
            if body.len() + chunk.len() > limit {
                return Err(Refusal::TooLarge { limit });
            }
            body.extend_from_slice(&chunk);
        }
    }
}

fn answered(answer: &BatchAnswer) -> HttpResponse {
    HttpResponse::Ok().json(answer)
}

fn gateway_timeout(headers: &Headers) -> HttpResponse {
    let status = StatusCode::GATEWAY_TIMEOUT;
    tracing::info!(
        batch_id = %headers.batch, device_id = %headers.device, sequence = %headers.sequence,
        attempt = headers.attempt, http_status = status.as_u16(),
        "batch answered by a gateway time-out"
    );
    HttpResponse::build(status).insert_header((CONTENT_TYPE, HTML)).body(GATEWAY_TIMEOUT)
}

fn refused(request: &HttpRequest, refusal: &Refusal) -> HttpResponse {
    let response = refusal.error_response();
    let header = |name: &str| request.headers().get(name).and_then(|id| id.to_str().ok());
    tracing::info!(
        batch_id = header(BATCH_ID),
        device_id = header(DEVICE_ID),
        http_status = response.status().as_u16(),
        code = refusal.code(),
        "batch refused"
    );
    response
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

fn ledger_lines(desk: Arc<Desk>) -> impl Stream<Item = Result<Bytes, LedgerError>> {
    stream::try_unfold(0, move |seq| {
        let desk = Arc::clone(&desk);
        async move {
            let page = desk.applied_after(seq, LEDGER_PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(None);
            };
            let next = last.seq;
            Ok(Some((lines(&page)?, next)))
        }
    })
    .inspect_err(|error| {
        tracing::error!(error = with_causes(error), "the ledger's listing broke off");
    })
}

fn lines(page: &[Application]) -> Result<Bytes, LedgerError> {
    let mut text = Vec::new();
    for row in page {
        serde_json::to_writer(&mut text, &AppliedRecord::of(row)?)?;
        text.push(b'\n');
    }
    Ok(text.into())
}
