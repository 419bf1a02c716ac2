//! The routes: authorization, reading of requests, and their responses.
//!
//! A body is read only after its sender was authorized and its headers were found valid.
//! Every response names the accepted encodings.

mod body;
mod device_status;
mod health;
mod hints;
mod request_metrics;

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use actix_web::middleware::DefaultHeaders;
use actix_web::web::{self, Bytes, Data, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use futures_util::{Stream, TryStreamExt, stream};
use tokio::time::timeout;

use super::admin::{AdminState, register_admin_routes};
use super::applied_entry::AppliedRecordJson;
use super::batch_processor::{
    AdmissionRefusal, BatchProcessor, BatchStatus, DestinationRefusal, ProcessingOutcome, SubmitResult,
};
use super::batch_validation::{self, ACCEPTED_ENCODINGS, BatchHeaders};
use super::bearer_token::bearer_token;
use super::client_certificate::CertificateScope;
use super::connection_places::ConnectionPlaces;
use super::device_limit::DeviceLimit;
use super::fault_injection::{FaultOptions, InjectedFault};
use super::fleet::Fleet;
use super::forward_control::ForwardControl;
use super::ledger::{AppliedRecord, BatchSettlement, LedgerError, PageLimit};
use super::load_control::BatchHead;
use super::metrics::Metrics;
use super::request_error::{RETRY_AFTER_SECONDS, RequestError};
use super::token_file::{TokenFile, TokenScope};
use crate::causes::with_causes;
use crate::clock::wall_ms;
use crate::model::BatchId;
use crate::protocol::wire::{BATCH_ID, BatchResponse, DEVICE_ID, Processing, ProcessingState};
pub(crate) use body::BodyMemory;
use device_status::post_status;
use health::{HEALTH_PATH, READY_PATH, report_health, report_readiness};
pub(crate) use request_metrics::count_request;
use request_metrics::{count_refusal, negotiate_format};

/// How much `GET /ledger` holds in memory at a time.
const LEDGER_PAGE_LIMIT: PageLimit = PageLimit { rows: 500, bytes: 1 << 20 };
const METRICS_PATH: &str = "/metrics";
const LEDGER_PATH: &str = "/ledger";
/// Below that of the batches.
const STATUS_PATH: &str = "/devices/{device_id}/status";
/// Paths that the batch endpoint cannot have.
pub(crate) const RESERVED_PATHS: [&str; 4] = [HEALTH_PATH, READY_PATH, METRICS_PATH, LEDGER_PATH];
const HTML_TYPE: &str = "text/html";
const NDJSON_TYPE: &str = "application/x-ndjson";
/// The body of a proxy's 504 response, as nginx sends it.
const GATEWAY_TIMEOUT_BODY: &str = "<html>\r\n<head><title>504 Gateway Time-out</title></head>\r\n\
    <body>\r\n<center><h1>504 Gateway Time-out</h1></center>\r\n</body>\r\n</html>\r\n";

/// What the handlers share.
pub(crate) struct GatewayState {
    pub(crate) processor: Arc<BatchProcessor>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) faults: FaultOptions,
    /// `None` if no bearer token is required.
    pub(crate) tokens: Option<Arc<TokenFile>>,
    pub(crate) body_bytes_max: usize,
    pub(crate) body_memory: BodyMemory,
    pub(crate) connections: Arc<ConnectionPlaces>,
    pub(crate) device_limit: Arc<DeviceLimit>,
    pub(crate) forward_control: Arc<ForwardControl>,
    pub(crate) fleet: Arc<Fleet>,
    /// `None` without calls for an operator.
    pub(crate) admin: Option<Arc<AdminState>>,
}

/// Registers the routes, with the batch endpoint at `path`.
pub(crate) fn register_routes(config: &mut ServiceConfig, state: &Arc<GatewayState>, path: &str) {
    let batches = web::scope(path)
        .service(
            web::resource("")
                .route(web::post().to(post_batch))
                .default_service(web::to(async || RequestError::MethodNotAllowed("POST").error_response())),
        )
        .service(
            web::resource("/{batch_id}")
                .route(web::get().to(query_outcome))
                .default_service(web::to(async || RequestError::MethodNotAllowed("GET").error_response())),
        )
        .service(
            web::resource(STATUS_PATH)
                .route(web::post().to(post_status))
                .default_service(web::to(async || RequestError::MethodNotAllowed("POST").error_response())),
        );
    if let Some(admin) = &state.admin {
        register_admin_routes(config, admin);
    }
    config
        .app_data(Data::from(Arc::clone(state)))
        .route(HEALTH_PATH, web::get().to(report_health))
        .route(READY_PATH, web::get().to(report_readiness))
        .route(METRICS_PATH, web::get().to(export_metrics))
        .route(LEDGER_PATH, web::get().to(list_ledger))
        .service(batches)
        .default_service(web::to(async || RequestError::NoSuchPath.error_response()));
}

/// Headers that every response has.
pub(crate) fn common_headers() -> DefaultHeaders {
    DefaultHeaders::new().add((ACCEPT_ENCODING, ACCEPTED_ENCODINGS))
}

async fn post_batch(request: HttpRequest, payload: Payload, state: Data<GatewayState>) -> HttpResponse {
    let response = state.take_batch(&request, payload).await.unwrap_or_else(|error| {
        count_refusal(&state.metrics, &error);
        reject_batch(&request, &error)
    });
    state.metrics.count_batch_response(response.status());
    state.add_hints(response)
}

async fn query_outcome(
    request: HttpRequest,
    id: web::Path<String>,
    state: Data<GatewayState>,
) -> HttpResponse {
    let response = state.query_outcome(&request, &id).await.unwrap_or_else(|error| {
        count_refusal(&state.metrics, &error);
        error.error_response()
    });
    state.metrics.count_query_response(response.status());
    state.add_hints(response)
}

async fn export_metrics(request: HttpRequest, state: Data<GatewayState>) -> HttpResponse {
    state.processor.export_destination();
    state.processor.export_ledger_size().await;
    state.fleet.export_counts(&state.metrics.fleet).await;
    let format = negotiate_format(request.headers());
    match state.metrics.encode_text(format) {
        Ok(text) => HttpResponse::Ok().content_type(format.content_type()).body(text),
        Err(_) => HttpResponse::InternalServerError().finish(),
    }
}

async fn list_ledger(request: HttpRequest, state: Data<GatewayState>) -> Result<HttpResponse, RequestError> {
    let scope = state.authorize(&request).and_then(|scope| match scope {
        TokenScope::AnyDevice => Ok(()),
        TokenScope::Devices(_) => Err(RequestError::DeviceToken),
    });
    scope.inspect_err(|error| count_refusal(&state.metrics, error))?;
    let lines = stream_ledger(Arc::clone(&state.processor));
    Ok(HttpResponse::Ok().content_type(NDJSON_TYPE).streaming(lines))
}

impl GatewayState {
    async fn take_batch(
        &self,
        request: &HttpRequest,
        payload: Payload,
    ) -> Result<HttpResponse, RequestError> {
        let scope = self.authorize(request)?;
        let headers = BatchHeaders::parse(request.headers())?;
        if !scope.covers(headers.device) {
            return Err(RequestError::OtherDevice(headers.device));
        }
        let device_name = batch_validation::read_device_name(request.headers());
        self.fleet.contacts.note_contact(headers.device, device_name.clone(), wall_ms());
        let place = self
            .device_limit
            .take_place(headers.device)
            .map_err(|busy| RequestError::DeviceBusy { limit: busy.limit })?;
        let head =
            BatchHead { device: headers.device, body_bytes: body::parse_content_length(request.headers()) };
        let admitted = self.processor.admit_batch(head, headers.batch, headers.attempt > 1);
        let upload = admitted.await.map_err(|refusal| match refusal {
            AdmissionRefusal::Draining => RequestError::draining(),
            AdmissionRefusal::InFlight => RequestError::Processing(headers.batch),
            AdmissionRefusal::Busy { wait } => RequestError::Busy { wait },
        })?;
        let (body, reserved) = self.read_body(request.headers(), payload).await?;
        let body_bytes = body.len();
        let (limit, faults) = (self.body_bytes_max, self.faults.clone());
        let batch = web::block(move || batch_validation::validate_batch(&body, &headers, limit, &faults))
            .await
            .map_err(|error| LedgerError::Storage(error.into()))??;
        drop(reserved);
        self.metrics.observe_batch(body_bytes, batch.records.len());
        self.processor.note_upload(body_bytes, batch.records.len());
        match self.faults.draw_fault() {
            InjectedFault::None => {}
            InjectedFault::LoseResponse => {
                // The batch is processed, and its result is not reported.
                drop(self.processor.submit_batch(batch, place, device_name));
                return Ok(time_out_batch(&headers));
            }
            InjectedFault::LoseRequest => return Ok(time_out_batch(&headers)),
        }
        let id = batch.id;
        let task = match self.processor.submit_batch(batch, place, device_name) {
            SubmitResult::Started(task) => task,
            SubmitResult::InFlight => return Err(RequestError::Processing(id)),
            SubmitResult::IdReused => return Err(RequestError::BatchIdReused(id)),
            SubmitResult::Busy => {
                return Err(RequestError::Busy { wait: self.processor.refuse_batch(head) });
            }
        };
        drop(upload);
        let time_budget = self.processor.time_budget();
        let limit = self.faults.time_limit.into_iter().chain(time_budget).min();
        let ended = match limit {
            None => task.await,
            // Dropping the task ends the wait only: processing continues.
            Some(limit) => match timeout(limit, task).await {
                Ok(ended) => ended,
                Err(_) if time_budget == Some(limit) => return Err(RequestError::DestinationSlow(id)),
                Err(_) => return Ok(time_out_batch(&headers)),
            },
        };
        match ended.map_err(|error| LedgerError::Storage(error.into()))?? {
            ProcessingOutcome::Settled(
                BatchSettlement::New(response) | BatchSettlement::Replayed(response),
            ) => Ok(batch_response(&response)),
            ProcessingOutcome::Settled(BatchSettlement::IdReused) => Err(RequestError::BatchIdReused(id)),
            ProcessingOutcome::ClaimedElsewhere => Err(RequestError::Processing(id)),
            ProcessingOutcome::Refused(DestinationRefusal { code, wait, reason }) => {
                Err(RequestError::DestinationRefusal { code, wait, reason })
            }
            ProcessingOutcome::Abandoned => Ok(time_out_batch(&headers)),
        }
    }

    async fn query_outcome(&self, request: &HttpRequest, id: &str) -> Result<HttpResponse, RequestError> {
        if self.faults.no_lookup {
            return Ok(HttpResponse::NotFound().content_type("text/plain").body("Not Found\n"));
        }
        let scope = self.authorize(request)?;
        let device = batch_validation::parse_device_id(request.headers())?;
        if !scope.covers(device) {
            return Err(RequestError::OtherDevice(device));
        }
        let name = batch_validation::read_device_name(request.headers());
        self.fleet.contacts.note_contact(device, name, wall_ms());
        let batch_id: BatchId = id.parse().map_err(|_| RequestError::InvalidBatchId(id.into()))?;
        match self.processor.batch_status(device, batch_id).await? {
            BatchStatus::Responded(response) => Ok(batch_response(&response)),
            BatchStatus::InFlight => Ok(HttpResponse::Accepted()
                .insert_header((RETRY_AFTER, RETRY_AFTER_SECONDS))
                .json(Processing { batch_id, state: ProcessingState::Processing })),
            BatchStatus::Unknown => Err(RequestError::UnknownBatch(batch_id)),
        }
    }

    /// For which devices the sender may act.
    fn authorize(&self, request: &HttpRequest) -> Result<TokenScope, RequestError> {
        let by_token = match &self.tokens {
            None => TokenScope::AnyDevice,
            Some(tokens) => bearer_token(request.headers())
                .and_then(|token| tokens.scope_of(token))
                .ok_or(RequestError::Unauthorized)?,
        };
        Ok(match request.conn_data::<CertificateScope>() {
            Some(by_certificate) => by_token.restrict_to(&by_certificate.0),
            None => by_token,
        })
    }
}

fn batch_response(response: &BatchResponse) -> HttpResponse {
    HttpResponse::Ok().json(response)
}

fn time_out_batch(headers: &BatchHeaders) -> HttpResponse {
    let status = StatusCode::GATEWAY_TIMEOUT;
    tracing::info!(
        batch_id = %headers.batch, device_id = %headers.device, sequence = %headers.sequence,
        attempt = headers.attempt, http_status = status.as_u16(),
        "batch answered with a simulated gateway time-out"
    );
    HttpResponse::build(status).insert_header((CONTENT_TYPE, HTML_TYPE)).body(GATEWAY_TIMEOUT_BODY)
}

fn reject_batch(request: &HttpRequest, error: &RequestError) -> HttpResponse {
    let response = error.error_response();
    let header = |name: &str| request.headers().get(name).and_then(|id| id.to_str().ok());
    tracing::info!(
        batch_id = header(BATCH_ID),
        device_id = header(DEVICE_ID),
        http_status = response.status().as_u16(),
        code = error.error_code(),
        "batch refused"
    );
    response
}

fn stream_ledger(processor: Arc<BatchProcessor>) -> impl Stream<Item = Result<Bytes, LedgerError>> {
    stream::try_unfold(0, move |seq| {
        let processor = Arc::clone(&processor);
        async move {
            let page = processor.applied_after(seq, LEDGER_PAGE_LIMIT).await?;
            let Some(last) = page.last() else {
                return Ok(None);
            };
            let next = last.seq;
            Ok(Some((encode_lines(&page)?, next)))
        }
    })
    .inspect_err(|error| {
        tracing::error!(error = with_causes(error), "the listing of the ledger was interrupted");
    })
}

fn encode_lines(page: &[AppliedRecord]) -> Result<Bytes, LedgerError> {
    let mut text = Vec::new();
    for row in page {
        serde_json::to_writer(&mut text, &AppliedRecordJson::from_record(row))?;
        text.push(b'\n');
    }
    Ok(text.into())
}
