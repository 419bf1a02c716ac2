//! Requests to the destination and to its token endpoint, each with a time limit.

use std::time::Duration;

use actix_web::web::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, Response};
use tokio::time::timeout;

use super::decode::CallResponse;
use super::mapping::{CallMethod, HttpMapping, MappingError};
use crate::causes::with_causes;
use crate::http_client::HttpsClient;
use crate::retry_after::parse_retry_after;

/// A longer response is not the destination's.
const RESPONSE_BYTES_MAX: usize = 8 << 20;

/// A request that got no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SendFailure {
    pub(crate) reason: String,
    /// There was no connection: the destination has not seen the request.
    pub(crate) is_unsent: bool,
    pub(crate) is_timeout: bool,
    /// A response began, and broke off.
    pub(crate) has_response: bool,
}

/// Sends requests, and reads responses whole.
pub(crate) struct CallClient {
    client: HttpsClient,
    method: Method,
    headers: Vec<(HeaderName, HeaderValue)>,
    credits_header: Option<HeaderName>,
}

impl CallClient {
    pub(crate) fn new(mapping: &HttpMapping, client: HttpsClient) -> Result<Self, MappingError> {
        let name = |text: &str| HeaderName::from_bytes(text.as_bytes()).ok();
        let headers = mapping.headers.iter().map(|(header, value)| {
            let parsed = name(header).zip(HeaderValue::from_str(value).ok());
            parsed.ok_or_else(|| MappingError::new(format!("headers.{header}"), "is not a header"))
        });
        let credits_header = mapping.limits.credits_header.as_deref().map(|header| {
            name(header).ok_or_else(|| MappingError::new("limits.credits_header", "is not a header"))
        });
        Ok(Self {
            client,
            method: match mapping.method {
                CallMethod::Post => Method::POST,
                CallMethod::Put => Method::PUT,
                CallMethod::Patch => Method::PATCH,
            },
            headers: headers.collect::<Result<_, _>>()?,
            credits_header: credits_header.transpose()?,
        })
    }

    /// Sends a call with records.
    pub(crate) async fn send_call(
        &self,
        url: &str,
        body: Vec<u8>,
        authorization: &HeaderValue,
        limit: Duration,
    ) -> Result<CallResponse, SendFailure> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(url)
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, authorization.clone());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| SendFailure {
            reason: with_causes(&error),
            is_unsent: true,
            is_timeout: false,
            has_response: false,
        })?;
        let (response, body) = self.exchange(request, limit).await?;
        let credits = self.credits_header.as_ref().and_then(|name| response.headers().get(name));
        Ok(CallResponse {
            status: response.status().as_u16(),
            retry_after: parse_retry_after(response.headers()),
            credits_left: credits.and_then(|value| parse_credits(value.to_str().ok()?)),
            body,
        })
    }

    /// Sends a form, and returns the status and the body of the response.
    pub(crate) async fn post_form(
        &self,
        url: &str,
        form: String,
        limit: Duration,
    ) -> Result<(u16, Bytes), String> {
        let request = Request::post(url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(form)))
            .map_err(|error| with_causes(&error))?;
        let (response, body) = self.exchange(request, limit).await.map_err(|failure| failure.reason)?;
        Ok((response.status().as_u16(), body))
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<(Response<()>, Bytes), SendFailure> {
        match timeout(limit, self.exchange_unlimited(request)).await {
            Ok(result) => result,
            Err(_) => Err(SendFailure {
                reason: "no response within the time limit".into(),
                is_unsent: false,
                is_timeout: true,
                has_response: false,
            }),
        }
    }

    async fn exchange_unlimited(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<()>, Bytes), SendFailure> {
        let response: Response<Incoming> =
            self.client.request(request).await.map_err(|error| SendFailure {
                is_unsent: error.is_connect(),
                reason: with_causes(&error),
                is_timeout: false,
                has_response: false,
            })?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, RESPONSE_BYTES_MAX).collect().await.map_err(|error| SendFailure {
            reason: format!("the response broke off: {}", with_causes(error.as_ref())),
            is_unsent: false,
            is_timeout: false,
            has_response: true,
        })?;
        Ok((Response::from_parts(head, ()), body.to_bytes()))
    }
}

/// `1500`, or `api-usage=3500/5000`.
fn parse_credits(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Ok(left) = text.parse() {
        return Some(left);
    }
    let (_, usage) = text.split_once('=')?;
    let (used, limit) = usage.split(',').next()?.split_once('/')?;
    Some(limit.trim().parse::<u64>().ok()?.saturating_sub(used.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::parse_credits;

    #[test]
    fn credits_are_a_number_or_follow_from_what_was_used() {
        let cases = [
            ("1500", Some(1500)),
            ("api-usage=3500/5000", Some(1500)),
            ("api-usage=25/20, per-app-api-usage=17/250(appName=x)", Some(0)),
            ("", None),
            ("many", None),
            ("api-usage=3500", None),
        ];
        for (text, credits) in cases {
            assert_eq!(parse_credits(text), credits, "{text}");
        }
    }
}
