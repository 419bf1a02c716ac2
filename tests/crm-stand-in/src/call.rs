//! One call from its arrival to its answer: faults, the time it takes, the time limit in front, and its answer.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::SizedStream;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use futures_util::StreamExt;
use futures_util::stream;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::connection::break_connection;
use crate::faults::FaultName;
use crate::state::{CallPermit, CrmState, StandIn};

/// Between the first half of an answer and the break, so that the first half is sent.
const CUT_DELAY: Duration = Duration::from_millis(50);
const HTML_TYPE: &str = "text/html";
const JSON_TYPE: &str = "application/json;charset=UTF-8";
/// As nginx sends it.
const GATEWAY_TIMEOUT_PAGE: &str = "<html>\r\n<head><title>504 Gateway Time-out</title></head>\r\n\
    <body>\r\n<center><h1>504 Gateway Time-out</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n";
const ERROR_PAGE: &str = "<!DOCTYPE html>\n<html><head><title>Error</title></head>\
    <body><h1>Sorry, something went wrong.</h1><p>Please sign in to the network.</p></body></html>\n";

/// An answer before it is sent.
#[derive(Clone, Debug)]
pub(crate) struct CrmAnswer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// The key of the results in the body; `None` if the body is the array itself.
    pub(crate) results_key: Option<&'static str>,
    pub(crate) body: Value,
}

impl CrmAnswer {
    pub(crate) fn new(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), results_key: None, body }
    }

    fn results(&mut self) -> Option<&mut Vec<Value>> {
        match self.results_key {
            Some(key) => self.body.get_mut(key)?.as_array_mut(),
            None => self.body.as_array_mut(),
        }
    }

    /// Changes the results as a fault has it.
    fn distort(&mut self, fault: FaultName) {
        let Some(results) = self.results() else { return };
        match fault {
            "too-few" => drop(results.pop()),
            "too-many" => results.extend(results.last().cloned()),
            "reordered" => results.reverse(),
            "id-twice" => repeat_first_id(results),
            _ => {}
        }
    }
}

/// Gives the second result with an id the id of the first.
fn repeat_first_id(results: &mut [Value]) {
    let mut ids = results.iter_mut().filter_map(|result| {
        let pointer = if result.get("details").is_some() { "/details/id" } else { "/id" };
        result.pointer_mut(pointer)
    });
    if let (Some(first), Some(second)) = (ids.next(), ids.next()) {
        *second = first.clone();
    }
}

/// The refusals that each CRM has in words of its own.
#[derive(Clone, Debug)]
pub(crate) struct CommonRefusals {
    pub(crate) server_error: CrmAnswer,
    pub(crate) unavailable: CrmAnswer,
    pub(crate) throttled: CrmAnswer,
}

/// A call that was let in.
pub(crate) struct AcceptedCall {
    pub(crate) stand_in: Arc<StandIn>,
    pub(crate) permit: CallPermit,
    pub(crate) records: usize,
    pub(crate) fault: Option<FaultName>,
    pub(crate) refusals: CommonRefusals,
}

impl AcceptedCall {
    /// Applies the call and answers, each as the faults have it.
    pub(crate) async fn run(
        self,
        request: &HttpRequest,
        apply: impl FnOnce(&mut CrmState) -> CrmAnswer + 'static,
    ) -> HttpResponse {
        let Self { stand_in, permit, records, fault, refusals } = self;
        let before = fault.and_then(|fault| answer_unapplied(&stand_in, fault, request, &refusals));
        if let Some(response) = before {
            return response;
        }
        let pace = stand_in.lock().faults.pace_call(records);
        let state = Arc::clone(&stand_in);
        // It runs to its end, also when the client or the time limit does not wait for it.
        let work = actix_web::rt::spawn(async move {
            wait_for(pace.until_applied).await;
            let answer = apply(&mut state.lock());
            wait_for(pace.until_done.saturating_sub(pace.until_applied)).await;
            drop(permit);
            answer
        });
        let done = match pace.time_limit {
            None => work.await,
            Some(limit) => match timeout(limit, work).await {
                Ok(done) => done,
                Err(_) => return send_gateway_timeout(&stand_in),
            },
        };
        let answer = done.unwrap_or_else(|_| refusals.server_error.clone());
        answer_applied(&stand_in, fault, request, answer, refusals).await
    }
}

async fn wait_for(time: Duration) {
    // Even an empty sleep waits for the next tick of the timer.
    if !time.is_zero() {
        sleep(time).await;
    }
}

/// The answer of a fault that keeps the call from being applied.
fn answer_unapplied(
    stand_in: &StandIn,
    fault: FaultName,
    request: &HttpRequest,
    refusals: &CommonRefusals,
) -> Option<HttpResponse> {
    Some(match fault {
        "close-before" => close(stand_in, request),
        "gateway-timeout-before" => send_gateway_timeout(stand_in),
        "server-error" => send_answer(stand_in, &refusals.server_error),
        "unavailable" => send_answer(stand_in, &refusals.unavailable),
        "throttle" => send_answer(stand_in, &refusals.throttled),
        "html-200" => send_page(stand_in, StatusCode::OK, ERROR_PAGE),
        "html-500" => send_page(stand_in, StatusCode::INTERNAL_SERVER_ERROR, ERROR_PAGE),
        _ => return None,
    })
}

async fn answer_applied(
    stand_in: &StandIn,
    fault: Option<FaultName>,
    request: &HttpRequest,
    mut answer: CrmAnswer,
    refusals: CommonRefusals,
) -> HttpResponse {
    match fault {
        Some("close-after") => close(stand_in, request),
        Some("hang") => {
            stand_in.lock().tally.count_response("hung");
            pending().await
        }
        Some("cut") => {
            stand_in.lock().tally.count_response("cut");
            cut_answer(&answer)
        }
        Some("empty") => {
            stand_in.lock().tally.count_response("empty");
            HttpResponse::build(status_of(&answer)).finish()
        }
        Some("gateway-timeout") => send_gateway_timeout(stand_in),
        Some("server-error-after") => send_answer(stand_in, &refusals.server_error),
        Some(other) => {
            answer.distort(other);
            send_answer(stand_in, &answer)
        }
        None => send_answer(stand_in, &answer),
    }
}

fn close(stand_in: &StandIn, request: &HttpRequest) -> HttpResponse {
    stand_in.lock().tally.count_response("closed");
    break_connection(request);
    HttpResponse::Ok().finish()
}

fn send_gateway_timeout(stand_in: &StandIn) -> HttpResponse {
    send_page(stand_in, StatusCode::GATEWAY_TIMEOUT, GATEWAY_TIMEOUT_PAGE)
}

/// An HTML page of a proxy, counted.
pub(crate) fn send_page(stand_in: &StandIn, status: StatusCode, page: &'static str) -> HttpResponse {
    stand_in.lock().tally.count_response(status.as_u16().to_string());
    HttpResponse::build(status).insert_header((CONTENT_TYPE, HTML_TYPE)).body(page)
}

/// The page of an error that the CRM did not write itself.
pub(crate) fn send_error_page(stand_in: &StandIn) -> HttpResponse {
    send_page(stand_in, StatusCode::INTERNAL_SERVER_ERROR, ERROR_PAGE)
}

/// Sends the answer, and counts it.
pub(crate) fn send_answer(stand_in: &StandIn, answer: &CrmAnswer) -> HttpResponse {
    stand_in.lock().tally.count_response(answer.status.to_string());
    build_response(answer)
}

/// An answer that is not counted, such as that of a token endpoint.
pub(crate) fn build_response(answer: &CrmAnswer) -> HttpResponse {
    let mut response = HttpResponse::build(status_of(answer));
    response.insert_header((CONTENT_TYPE, JSON_TYPE));
    for (name, value) in &answer.headers {
        response.insert_header((*name, value.as_str()));
    }
    response.body(answer.body.to_string())
}

/// The header for a wait of so many seconds.
pub(crate) fn retry_after_header(wait: Duration) -> (&'static str, String) {
    ("retry-after", wait.as_secs().max(1).to_string())
}

fn cut_answer(answer: &CrmAnswer) -> HttpResponse {
    let text = answer.body.to_string();
    let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
    let half = Bytes::copy_from_slice(&text.as_bytes()[..text.len() / 2]);
    let broken = async {
        sleep(CUT_DELAY).await;
        Err(io::Error::from(io::ErrorKind::ConnectionAborted))
    };
    let parts = stream::once(async { Ok(half) }).chain(stream::once(broken));
    HttpResponse::build(status_of(answer))
        .insert_header((CONTENT_TYPE, JSON_TYPE))
        .body(SizedStream::new(length, Box::pin(parts)))
}

fn status_of(answer: &CrmAnswer) -> StatusCode {
    StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
