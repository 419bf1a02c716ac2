//! The calls for an operator, and the page that makes them. Calls need a token of `--admin-token-file`; without that
//! option, there is neither.

pub(crate) mod device_shapes;
mod devices;
mod page;
mod refused;
pub(crate) mod shapes;

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::HeaderMap;
use actix_web::web::{self, Bytes, Data, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use tokio::time::timeout;

use super::batch_processor::BatchProcessor;
use super::bearer_token::bearer_token;
use super::fleet::Fleet;
use super::forward_control::ForwardControl;
use super::metrics::{AuthFailure, Metrics};
use super::request_error::RequestError;
use super::token_file::{TokenFile, TokenScope};

/// All paths below it are for operators.
pub(crate) const ADMIN_PATH: &str = "/admin";
/// A body has to arrive in this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What the calls share.
pub(crate) struct AdminState {
    pub(crate) processor: Arc<BatchProcessor>,
    pub(crate) forward_control: Arc<ForwardControl>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) tokens: Arc<TokenFile>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) body_bytes_max: usize,
}

/// Registers the calls.
pub(crate) fn register_admin_routes(config: &mut ServiceConfig, state: &Arc<AdminState>) {
    config.service(
        web::scope(ADMIN_PATH)
            .app_data(Data::from(Arc::clone(state)))
            .wrap(page::security_headers())
            .service(only(web::resource("").route(web::get().to(page::redirect_to_page)), "GET"))
            .service(only(web::resource("/").route(web::get().to(page::get_page)), "GET"))
            .service(only(web::resource("/devices").route(web::get().to(devices::list_devices)), "GET"))
            .service(only(web::resource("/refused").route(web::get().to(refused::list_refused)), "GET"))
            .service(only(
                web::resource("/refused/retry").route(web::post().to(refused::retry_refused)),
                "POST",
            ))
            .service(only(
                web::resource("/refused/discard").route(web::post().to(refused::discard_refused)),
                "POST",
            ))
            .service(only(web::resource("/refused/{id}").route(web::get().to(refused::show_refused)), "GET"))
            .service(only(
                web::resource("/refused/{id}/payload")
                    .route(web::get().to(refused::show_payload))
                    .route(web::put().to(refused::replace_payload)),
                "GET, PUT",
            ))
            .default_service(web::to(refuse_path)),
    );
}

/// Answers other methods. A sender without a token learns nothing.
fn only(resource: actix_web::Resource, methods: &'static str) -> actix_web::Resource {
    resource.default_service(web::to(move |request: HttpRequest, state: Data<AdminState>| {
        ready(refusal(&state, &request, RequestError::MethodNotAllowed(methods)))
    }))
}

async fn refuse_path(request: HttpRequest, state: Data<AdminState>) -> HttpResponse {
    refusal(&state, &request, RequestError::NoSuchPath)
}

fn refusal(state: &AdminState, request: &HttpRequest, error: RequestError) -> HttpResponse {
    state.authorize(request.headers()).err().unwrap_or(error).error_response()
}

impl AdminState {
    fn authorize(&self, headers: &HeaderMap) -> Result<(), RequestError> {
        let scope = bearer_token(headers).and_then(|token| self.tokens.scope_of(token));
        // A line for one device would not be a token of an operator.
        if scope == Some(TokenScope::AnyDevice) {
            return Ok(());
        }
        self.metrics.http.count_auth_failure(AuthFailure::Operator);
        tracing::warn!("a request of an operator was refused: it shows no token of --admin-token-file");
        Err(RequestError::Unauthorized)
    }

    async fn read_body(&self, payload: Payload) -> Result<Bytes, RequestError> {
        let limit = self.body_bytes_max;
        timeout(BODY_TIMEOUT, payload.to_bytes_limited(limit))
            .await
            .map_err(|_| RequestError::BodyTooSlow)?
            .map_err(|_| RequestError::BodyTooLarge { limit })?
            .map_err(|_| RequestError::BodyInterrupted)
    }
}
