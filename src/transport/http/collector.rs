//! Requests to an OTLP collector. They use a connection of their own, and never a slot of batches.
//!
//! Proxies and authorities are those of the server. The client certificate and the token are for the server alone.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use awc::Client;
use awc::http::header::{self, HeaderValue};
use hyper::Uri;
use serde::Deserialize;

use super::TransportError;
use super::connection_pool::CONNECTION_AGE_MAX;
use super::failure::describe_missing_response;
use super::kept_connection::{ConnectionSettings, build_client};
use crate::clock::{Clock, wall_ms};
use crate::config::Config;
use crate::protocol::exchange::truncate_text;
use crate::transport::credential::CollectorHeaders;
use crate::transport::dial::Dialer;
use crate::transport::encoding::ContentEncoding;
use crate::transport::host::host_header;
use crate::transport::proxy::Proxy;
use crate::transport::request_limits::RequestLimits;
use crate::transport::response::parse_retry_after;

/// Time limit of a request, from the connection to the end of the response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest time for name resolution, TCP, proxy and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest response that is read.
const RESPONSE_BYTES_MAX: usize = 64 << 10;

/// What is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// An `ExportMetricsServiceRequest`.
    Metrics,
    /// An `ExportLogsServiceRequest`.
    Logs,
}

impl Signal {
    fn path(self) -> &'static str {
        match self {
            Self::Metrics => "/v1/metrics",
            Self::Logs => "/v1/logs",
        }
    }
}

/// What became of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushResult {
    /// The collector accepted it, at least partly.
    Accepted {
        /// What it says about the rest.
        notice: Option<CollectorNotice>,
    },
    /// It may be repeated later: there was no response, or a temporary one.
    Failed {
        /// Why.
        reason: String,
        /// How long the collector asks to wait.
        retry_after: Option<Duration>,
    },
    /// It must not be repeated.
    Refused {
        /// Why.
        reason: String,
    },
}

/// What a collector says about a push that it accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectorNotice {
    /// How many items it rejected; zero for a mere remark.
    pub rejected: u64,
    /// Why, or the remark; may be empty.
    pub explanation: String,
}

impl fmt::Display for CollectorNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rejected, explanation } = self;
        match (rejected, explanation.as_str()) {
            (0, remark) => write!(f, "the collector says: {remark}"),
            (rejected, "") => write!(f, "the collector rejected {rejected} items"),
            (rejected, reason) => write!(f, "the collector rejected {rejected} items: {reason}"),
        }
    }
}

/// A collector.
pub struct Collector {
    settings: Rc<ConnectionSettings>,
    limits: RequestLimits,
    base_url: String,
    /// Set here because awc would omit a port that is the default of another scheme.
    host: String,
}

impl Collector {
    /// The one that the configuration names.
    pub fn new(config: &Config) -> Result<Self, TransportError> {
        let url = &config.telemetry.otlp_url;
        let uri: Uri = url.parse()?;
        let mut server = config.server.clone();
        (server.client_cert_file, server.client_key_file) = (None, None);
        server.connect_timeout.0 = server.connect_timeout.0.min(CONNECT_TIMEOUT);
        if config.telemetry.is_collector_local() {
            server.proxy = "none".into();
        }
        let limits = RequestLimits::for_batch(&server, None);
        let (proxy, host, clock) = (Proxy::for_server(&server, &uri)?, host_header(&uri), Clock::start());
        let settings = ConnectionSettings {
            clock,
            connect_timeout: server.connect_timeout.0,
            dialer: Dialer::new(&server, uri, proxy, clock)?,
            age_max: CONNECTION_AGE_MAX,
            response_bytes_max: RESPONSE_BYTES_MAX,
            invalidation: Rc::default(),
        };
        // TLS is added below awc, so awc always gets an http URL.
        let (_, authority_and_path) = url.split_once("://").unwrap_or_default();
        let base_url = format!("http://{}", authority_and_path.trim_end_matches('/'));
        Ok(Self { settings: Rc::new(settings), limits, base_url, host })
    }

    /// For a few requests one after the other, over one connection, which ends with it.
    pub fn open_session(self: &Rc<Self>, headers: CollectorHeaders) -> CollectorSession {
        CollectorSession {
            collector: Rc::clone(self),
            client: build_client(&self.settings, &Rc::default()),
            headers,
        }
    }
}

/// A connection to a collector.
pub struct CollectorSession {
    collector: Rc<Collector>,
    client: Client,
    headers: CollectorHeaders,
}

impl CollectorSession {
    /// Pushes a request in JSON. It takes a bounded time.
    pub async fn push(&self, signal: Signal, json: &[u8]) -> PushResult {
        let pushing = self.push_without_limit(signal, json);
        tokio::time::timeout(REQUEST_TIMEOUT, pushing).await.unwrap_or_else(|_| {
            let reason = format!("no complete response within {} s", REQUEST_TIMEOUT.as_secs());
            PushResult::Failed { reason, retry_after: None }
        })
    }

    /// A text of the collector, for the journal. It is shortened last, so that no secret is cut in two.
    fn quote(&self, text: &str) -> String {
        truncate_text(self.headers.hide_in(text))
    }

    async fn push_without_limit(&self, signal: Signal, json: &[u8]) -> PushResult {
        let failed = |reason: String| PushResult::Failed { reason, retry_after: None };
        let url = format!("{}{}", self.collector.base_url, signal.path());
        let mut request = self
            .client
            .post(url)
            .insert_header((header::HOST, self.collector.host.as_str()))
            .insert_header((header::CONTENT_TYPE, "application/json"))
            .insert_header((header::CONTENT_ENCODING, ContentEncoding::Gzip.name()));
        for (name, value) in self.headers.expose() {
            let Ok(mut value) = HeaderValue::from_str(value) else { continue };
            value.set_sensitive(true);
            request = request.insert_header((name, value));
        }
        let body = match ContentEncoding::Gzip.encode(json) {
            Ok(body) => body,
            Err(error) => return failed(error.to_string()),
        };
        let mut response = match request.send_body(body).await {
            Ok(response) => response,
            Err(error) => {
                let described = describe_missing_response(&error, &self.collector.limits, true);
                return failed(self.headers.hide_in(&described.message));
            }
        };
        let status = response.status().as_u16();
        let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let now = Duration::from_millis(wall_ms());
        let retry_after = retry_after.and_then(|value| parse_retry_after(value.trim(), now));
        // The body matters only where it explains something.
        let body = response.body().limit(RESPONSE_BYTES_MAX).await.unwrap_or_default();
        let reason = || format!("the collector responded with HTTP {status}");
        match status {
            200..=299 => PushResult::Accepted { notice: find_notice(&body, |text| self.quote(text)) },
            429 | 502 | 503 | 504 => PushResult::Failed { reason: reason(), retry_after },
            _ => PushResult::Refused { reason: with_explanation(reason(), &body, |text| self.quote(text)) },
        }
    }
}

/// The part of a response that says what was not accepted. 64-bit integers are texts; some collectors send numbers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExportResponse {
    partial_success: Option<PartialSuccess>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PartialSuccess {
    #[serde(alias = "rejectedLogRecords")]
    rejected_data_points: serde_json::Value,
    error_message: String,
}

fn find_notice(body: &[u8], quote: impl Fn(&str) -> String) -> Option<CollectorNotice> {
    let response: ExportResponse = serde_json::from_slice(body).ok()?;
    let PartialSuccess { rejected_data_points, error_message } = response.partial_success?;
    let rejected = match &rejected_data_points {
        serde_json::Value::String(count) => count.parse().unwrap_or(0),
        count => count.as_u64().unwrap_or(0),
    };
    let is_notice = rejected > 0 || !error_message.is_empty();
    is_notice.then(|| CollectorNotice { rejected, explanation: quote(&error_message) })
}

/// With the `message` of the `Status` that a collector may send.
fn with_explanation(reason: String, body: &[u8], quote: impl Fn(&str) -> String) -> String {
    #[derive(Deserialize)]
    struct Status {
        message: String,
    }
    match serde_json::from_slice::<Status>(body) {
        Ok(Status { message }) if !message.is_empty() => format!("{reason}: {}", quote(&message)),
        _ => reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_success_is_read_in_any_of_its_forms() {
        for (body, expected) in [
            (
                r#"{"partialSuccess": {"rejectedDataPoints": "3", "errorMessage": "too old"}}"#,
                Some("the collector rejected 3 items: too old"),
            ),
            (r#"{"partialSuccess": {"rejectedLogRecords": 1}}"#, Some("the collector rejected 1 items")),
            (r#"{"partialSuccess": {"errorMessage": "deprecated"}}"#, Some("the collector says: deprecated")),
            (r#"{"partialSuccess": {}}"#, None),
            (r"{}", None),
            ("", None),
            ("\n\u{1}protobuf", None),
        ] {
            let notice = find_notice(body.as_bytes(), str::to_owned).map(|notice| notice.to_string());
            assert_eq!(notice.as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn only_the_text_of_the_collector_is_searched_for_secrets() {
        let explain =
            |body: &[u8]| with_explanation("HTTP 400".into(), body, |text| text.replace("400", "***"));
        assert_eq!(explain(br#"{"code": 3, "message": "400 is no tenant"}"#), "HTTP 400: *** is no tenant");
        assert_eq!(explain(b"<html>"), "HTTP 400");
    }
}
