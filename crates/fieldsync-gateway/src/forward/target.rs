//! One POST request to the target.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use actix_web::web::Bytes;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use tokio::time::{Instant, timeout_at};

use super::body::ForwardFormat;
use super::response::{BodyEnd, PostOutcome, ReceivedResponse, ReceiverStyle};
use super::signing::{SecretFileError, SigningSecrets};
use crate::causes::with_causes;
use crate::clock::wall_ms;
use crate::digest::sha256;
use crate::http_client::{HttpsClient, authorization_value, build_https_client, parse_http_url, read_secret};
use crate::ledger::OutboxEntry;

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const WEBHOOK_ID: &str = "webhook-id";
const WEBHOOK_TIMESTAMP: &str = "webhook-timestamp";
const WEBHOOK_SIGNATURE: &str = "webhook-signature";
/// A longer response is not read to its end: so much, and more for each record, as it may have a result for each.
const RESPONSE_BYTES_MAX: usize = 64 << 10;
const RESPONSE_BYTES_PER_RECORD_MAX: usize = 4 << 10;

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
    #[error(transparent)]
    Secrets(#[from] SecretFileError),
    #[error("TLS to the target of --forward cannot be set up")]
    Tls(#[from] rustls::Error),
}

impl ForwardTargetError {
    /// The key of the configuration that names the cause.
    pub(crate) fn key(&self) -> &'static str {
        match self {
            Self::Url | Self::Tls(_) => "forward.url",
            Self::TokenFile { .. } | Self::Token { .. } => "forward.token_file",
            Self::Secrets(_) => "forward.secret_file",
        }
    }
}

/// The files with secrets for requests.
#[derive(Clone, Debug, Default)]
pub(super) struct SecretFiles {
    pub(super) token: Option<PathBuf>,
    pub(super) signing: Option<PathBuf>,
}

/// The server that records are forwarded to.
pub(crate) struct ForwardTarget {
    uri: Uri,
    format: ForwardFormat,
    files: SecretFiles,
    authorization: Option<HeaderValue>,
    secrets: Option<SigningSecrets>,
    client: HttpsClient,
    response_timeout: Duration,
    style: ReceiverStyle,
}

impl ForwardTarget {
    pub(super) fn new(
        url: &str,
        format: ForwardFormat,
        files: SecretFiles,
        response_timeout: Duration,
    ) -> Result<Self, ForwardTargetError> {
        let uri = parse_http_url(url).ok_or(ForwardTargetError::Url)?;
        let mut target = Self {
            uri,
            format,
            files,
            authorization: None,
            secrets: None,
            client: build_https_client()?,
            response_timeout,
            style: ReceiverStyle::Unknown,
        };
        target.reload_secrets()?;
        Ok(target)
    }

    /// Reads the files with secrets again. If one cannot be used, both stay as they were.
    pub(super) fn reload_secrets(&mut self) -> Result<(), ForwardTargetError> {
        let SecretFiles { token, signing } = &self.files;
        let authorization = token.as_deref().map(read_bearer_token).transpose()?;
        let secrets = signing.as_deref().map(SigningSecrets::read_file).transpose()?;
        (self.authorization, self.secrets) = (authorization, secrets);
        Ok(())
    }

    /// Whether a body may have several records of a key.
    pub(super) fn may_repeat_keys(&self) -> bool {
        self.style.may_repeat_keys()
    }

    pub(super) async fn post_records(&mut self, records: &[&OutboxEntry]) -> PostOutcome {
        match self.exchange(records).await {
            Ok(response) => {
                let outcome = response.outcome(self.style);
                self.style = self.style.after(&outcome);
                outcome
            }
            Err(error) => PostOutcome::Failed(error),
        }
    }

    async fn exchange(&self, records: &[&OutboxEntry]) -> Result<ReceivedResponse, String> {
        let deadline = Instant::now() + self.response_timeout;
        let body = self.format.encode_body(records).map_err(|error| with_causes(&error))?;
        let request = self.build_request(body).map_err(|error| with_causes(&error))?;
        let response = match timeout_at(deadline, self.client.request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(with_causes(&error)),
            Err(_) => return Err("no response within the time limit".into()),
        };
        let limit = RESPONSE_BYTES_MAX + RESPONSE_BYTES_PER_RECORD_MAX * records.len();
        Ok(read_response(response, deadline, limit).await)
    }

    fn build_request(&self, body: Bytes) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let id = idempotency_key(&body);
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header(CONTENT_TYPE, self.format.content_type())
            .header(IDEMPOTENCY_KEY, &id);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        if let Some(secrets) = &self.secrets {
            let timestamp = wall_ms() / 1000;
            request = request
                .header(WEBHOOK_ID, &id)
                .header(WEBHOOK_TIMESTAMP, timestamp)
                .header(WEBHOOK_SIGNATURE, secrets.sign(&id, timestamp, &body));
        }
        request.body(Full::new(body))
    }
}

/// Reads the body as well: a connection can be used again only after its response was read.
async fn read_response(response: Response<Incoming>, deadline: Instant, limit: usize) -> ReceivedResponse {
    let (head, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    let mut end = BodyEnd::Cut;
    let reading = async {
        while bytes.len() <= limit {
            match body.frame().await {
                Some(Ok(frame)) => bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
                Some(Err(_)) => return,
                None => {
                    end = BodyEnd::Whole;
                    return;
                }
            }
        }
        end = BodyEnd::TooLong;
    };
    // What arrived until then is used.
    timeout_at(deadline, reading).await.ok();
    ReceivedResponse { status: head.status, headers: head.headers, body: bytes, end }
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

    use super::{ForwardFormat, ForwardTarget, SecretFiles};

    #[test]
    fn a_url_with_a_password_is_rejected_because_the_process_list_would_show_it() {
        let is_valid = |url| {
            let files = SecretFiles::default();
            ForwardTarget::new(url, ForwardFormat::Records, files, Duration::from_secs(1)).is_ok()
        };
        for url in
            ["crm.example/hook", "ftp://crm.example/", "https://me:secret@crm.example/", "https:///hook"]
        {
            assert!(!is_valid(url), "{url}");
        }
        assert!(is_valid("https://crm.example/hook?of=field"));
    }
}
