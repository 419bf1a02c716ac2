//! One POST, and what its answer means.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use actix_web::web::Bytes;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::timeout;

use crate::causes::with_causes;
use crate::client_tls;
use crate::ledger::sha256;

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// What comes after the head of an answer is not waited for longer.
const REST_LIMIT: Duration = Duration::from_secs(1);
/// More of an answer is not read: its connection is not used again.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Why nothing can be handed on there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    #[error(
        "--forward must be a http or https URL without user and password: a token goes into --forward-token-file"
    )]
    Url,
    #[error("cannot read the token file {}", path.display())]
    TokenFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the token file {} does not hold a token", path.display())]
    Token { path: PathBuf },
    #[error("TLS to those whom records are handed on to cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// What became of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The records are theirs now.
    Taken,
    /// They will never be, as they are.
    Refused(u16),
    /// It is not about the records: there is no such place, or nobody is let in like this.
    NoEntry(u16),
    /// They may be later.
    NotNow { status: u16, after: Option<Duration> },
    /// Nobody knows.
    Failed(String),
}

impl Outcome {
    pub(super) fn is_taken(&self) -> bool {
        *self == Self::Taken
    }

    fn of(status: StatusCode, after: Option<Duration>) -> Self {
        let code = status.as_u16();
        match code {
            200..300 => Self::Taken,
            408 | 429 => Self::NotNow { status: code, after },
            401 | 403..=405 => Self::NoEntry(code),
            400..500 => Self::Refused(code),
            _ => Self::NotNow { status: code, after },
        }
    }
}

/// Where records are handed on to.
pub(crate) struct Target {
    uri: Uri,
    token_file: Option<PathBuf>,
    authorization: Option<HeaderValue>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    limit: Duration,
}

impl Target {
    pub(super) fn new(url: &str, token_file: Option<&Path>, limit: Duration) -> Result<Self, TargetError> {
        let uri: Uri = url.parse().map_err(|_| TargetError::Url)?;
        let is_plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        if !matches!(uri.scheme_str(), Some("http" | "https")) || !is_plain {
            return Err(TargetError::Url);
        }
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_LIMIT));
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(client_tls::trusting(client_tls::system_roots())?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(Self {
            uri,
            token_file: token_file.map(Into::into),
            authorization: token_file.map(bearer).transpose()?,
            client: Client::builder(TokioExecutor::new()).build(connector),
            limit,
        })
    }

    /// Takes the token that the file holds by now.
    pub(super) fn read_token_again(&mut self) -> Result<(), TargetError> {
        if let Some(path) = &self.token_file {
            self.authorization = Some(bearer(path)?);
        }
        Ok(())
    }

    pub(super) async fn post(&self, body: Bytes) -> Outcome {
        let request = match self.request(body) {
            Ok(request) => request,
            Err(error) => return Outcome::Failed(with_causes(&error)),
        };
        let answer = match timeout(self.limit, self.client.request(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Outcome::Failed(with_causes(&error)),
            Err(_) => return Outcome::Failed("there was no answer in time".into()),
        };
        let outcome = Outcome::of(answer.status(), retry_after(&answer));
        // What else it says is of no interest, but only a connection whose answer was read serves again.
        drop(timeout(REST_LIMIT, Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect()).await);
        outcome
    }

    fn request(&self, body: Bytes) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(IDEMPOTENCY_KEY, idempotency_key(&body));
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        request.body(Full::new(body))
    }
}

fn bearer(path: &Path) -> Result<HeaderValue, TargetError> {
    let token =
        fs::read_to_string(path).map_err(|source| TargetError::TokenFile { path: path.into(), source })?;
    let value = match token.trim() {
        "" => None,
        token => HeaderValue::from_str(&format!("Bearer {token}")).ok(),
    };
    let mut value = value.ok_or_else(|| TargetError::Token { path: path.into() })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The same body has the same key, after a restart, too.
fn idempotency_key(body: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(sha256(body))
}

/// Seconds only: a date would depend on the clocks of both.
fn retry_after<B>(answer: &Response<B>) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::StatusCode;

    use super::{Outcome, Target};

    #[test]
    fn only_2xx_is_taken_and_only_a_4xx_that_no_time_heals_is_a_refusal() {
        let outcome = |code| Outcome::of(StatusCode::from_u16(code).unwrap(), None);
        for taken in [200, 201, 202, 204] {
            assert_eq!(outcome(taken), Outcome::Taken);
        }
        for refused in [400, 409, 413, 422] {
            assert_eq!(outcome(refused), Outcome::Refused(refused));
        }
        for no_entry in [401, 403, 404, 405] {
            assert_eq!(outcome(no_entry), Outcome::NoEntry(no_entry));
        }
        for not_now in [302, 408, 429, 500, 502, 503, 504] {
            assert_eq!(outcome(not_now), Outcome::NotNow { status: not_now, after: None });
        }
    }

    #[test]
    fn a_url_that_would_show_a_password_in_the_list_of_processes_is_refused() {
        for url in
            ["crm.example/hook", "ftp://crm.example/", "https://me:secret@crm.example/", "https:///hook"]
        {
            assert!(Target::new(url, None, Duration::from_secs(1)).is_err(), "{url}");
        }
        assert!(Target::new("https://crm.example/hook?of=field", None, Duration::from_secs(1)).is_ok());
    }
}
