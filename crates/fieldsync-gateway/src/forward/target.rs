//! One POST request to the target, and the meaning of its response.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use actix_web::web::Bytes;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use tokio::time::timeout;

use crate::causes::with_causes;
use crate::digest::sha256;
use crate::http_client::{
    HttpsClient, authorization_value, build_https_client, parse_http_url, read_secret, retry_after_seconds,
};

const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// For the rest of a response after its head.
const RESPONSE_BODY_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection whose response is longer is not used again.
const RESPONSE_BYTES_MAX: usize = 64 << 10;

/// Why the target cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwardTargetError {
    #[error(
        "--forward must be an http or https URL without user and password: a token goes into --forward-token-file"
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
    #[error("TLS to the target of --forward cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PostOutcome {
    /// The target has the records.
    Accepted,
    /// The target will never accept these records unchanged.
    Rejected(u16),
    /// The URL or the token is wrong; nothing is said about the records.
    EndpointUnavailable(u16),
    /// The target may accept the records later.
    RetryLater { status: u16, after: Option<Duration> },
    /// No response came: the target may have the records or not.
    Failed(String),
}

impl PostOutcome {
    pub(super) fn is_accepted(&self) -> bool {
        *self == Self::Accepted
    }

    fn from_status(status: StatusCode, after: Option<Duration>) -> Self {
        let code = status.as_u16();
        match code {
            200..300 => Self::Accepted,
            408 | 429 => Self::RetryLater { status: code, after },
            401 | 403..=405 => Self::EndpointUnavailable(code),
            400..500 => Self::Rejected(code),
            _ => Self::RetryLater { status: code, after },
        }
    }
}

/// The server that records are forwarded to.
pub(crate) struct ForwardTarget {
    uri: Uri,
    token_file: Option<PathBuf>,
    authorization: Option<HeaderValue>,
    client: HttpsClient,
    response_timeout: Duration,
}

impl ForwardTarget {
    pub(super) fn new(
        url: &str,
        token_file: Option<&Path>,
        response_timeout: Duration,
    ) -> Result<Self, ForwardTargetError> {
        let uri = parse_http_url(url).ok_or(ForwardTargetError::Url)?;
        Ok(Self {
            uri,
            token_file: token_file.map(Into::into),
            authorization: token_file.map(read_bearer_token).transpose()?,
            client: build_https_client()?,
            response_timeout,
        })
    }

    /// Reads the token file again.
    pub(super) fn reload_token(&mut self) -> Result<(), ForwardTargetError> {
        if let Some(path) = &self.token_file {
            self.authorization = Some(read_bearer_token(path)?);
        }
        Ok(())
    }

    pub(super) async fn post_records(&self, body: Bytes) -> PostOutcome {
        let request = match self.build_request(body) {
            Ok(request) => request,
            Err(error) => return PostOutcome::Failed(with_causes(&error)),
        };
        let response = match timeout(self.response_timeout, self.client.request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return PostOutcome::Failed(with_causes(&error)),
            Err(_) => return PostOutcome::Failed("no response within the time limit".into()),
        };
        let outcome = PostOutcome::from_status(response.status(), retry_after_seconds(response.headers()));
        // The body is not used, but a connection can be used again only after its response was read.
        drop(
            timeout(RESPONSE_BODY_TIMEOUT, Limited::new(response.into_body(), RESPONSE_BYTES_MAX).collect())
                .await,
        );
        outcome
    }

    fn build_request(&self, body: Bytes) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
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

fn read_bearer_token(path: &Path) -> Result<HeaderValue, ForwardTargetError> {
    let token =
        read_secret(path).map_err(|source| ForwardTargetError::TokenFile { path: path.into(), source })?;
    token
        .and_then(|token| authorization_value("Bearer", &token))
        .ok_or_else(|| ForwardTargetError::Token { path: path.into() })
}

/// The same body has the same key, even after a restart.
fn idempotency_key(body: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(sha256(body))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::StatusCode;

    use super::{ForwardTarget, PostOutcome};

    #[test]
    fn only_2xx_is_accepted_and_only_a_permanent_4xx_is_a_rejection() {
        let outcome = |code| PostOutcome::from_status(StatusCode::from_u16(code).unwrap(), None);
        for accepted in [200, 201, 202, 204] {
            assert_eq!(outcome(accepted), PostOutcome::Accepted);
        }
        for rejected in [400, 409, 413, 422] {
            assert_eq!(outcome(rejected), PostOutcome::Rejected(rejected));
        }
        for unavailable in [401, 403, 404, 405] {
            assert_eq!(outcome(unavailable), PostOutcome::EndpointUnavailable(unavailable));
        }
        for later in [302, 408, 429, 500, 502, 503, 504] {
            assert_eq!(outcome(later), PostOutcome::RetryLater { status: later, after: None });
        }
    }

    #[test]
    fn a_url_with_a_password_is_rejected_because_the_process_list_would_show_it() {
        for url in
            ["crm.example/hook", "ftp://crm.example/", "https://me:secret@crm.example/", "https:///hook"]
        {
            assert!(ForwardTarget::new(url, None, Duration::from_secs(1)).is_err(), "{url}");
        }
        assert!(
            ForwardTarget::new("https://crm.example/hook?of=field", None, Duration::from_secs(1)).is_ok()
        );
    }
}
