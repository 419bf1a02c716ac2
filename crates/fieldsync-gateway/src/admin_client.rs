//! The calls for an operator, from the side of the caller, and the options that all commands with such calls have.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use actix_web::web::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::admin::device_shapes::DevicePage;
use crate::admin::shapes::{ChangedRecords, RefusedPage, RefusedSelection};
use crate::causes::with_causes;
use crate::exit;
use crate::hidden::replace_hidden;
use crate::http_client::{HttpsClient, authorization_value, build_https_client, parse_http_url};
use crate::model::RecordId;
use crate::protocol::wire::ErrorBody;

const RESPONSE_TIMEOUT: Duration = Duration::from_mins(2);
/// A longer response is not that of a gateway.
const RESPONSE_BYTES_MAX: usize = 64 << 20;
/// Records in one page.
const PAGE_ROWS: u64 = 500;

/// The gateway that a command calls.
#[derive(Debug, clap::Args)]
pub(crate) struct GatewayArgs {
    /// Where the gateway listens
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// File with the operator's token: the first line of the gateway's --admin-token-file, or a copy of it
    #[arg(long, value_name = "FILE")]
    admin_token_file: PathBuf,
}

impl GatewayArgs {
    pub(crate) fn open_client(&self) -> Result<AdminClient, AdminClientError> {
        AdminClient::open(&self.url, &self.admin_token_file)
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminClientError {
    #[error("--url must be the http or https URL of a gateway, without user and password")]
    Url,
    #[error("cannot read the token file {}", path.display())]
    TokenFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the token file {} does not hold a token", path.display())]
    Token { path: PathBuf },
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    #[error(
        "no gateway responds at {url} ({why}). Nothing was changed. Check --url, and that the gateway runs"
    )]
    Unreachable { url: String, why: String },
    #[error(
        "the gateway did not respond completely ({0}). It may have executed the command: list the records again"
    )]
    Lost(String),
    #[error("the gateway refuses the token of --admin-token-file: nothing was changed")]
    Unauthorized,
    #[error("{} is not a gateway with --admin-token-file: nothing was changed", .0)]
    NoSuchPath(String),
    #[error("{message}")]
    Refused { status: StatusCode, message: String },
    #[error("the program at --url does not speak as a gateway ({0})")]
    Foreign(String),
}

impl AdminClientError {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Url => exit::USAGE,
            Self::Unreachable { .. } => exit::NO_DAEMON,
            Self::Unauthorized => exit::NOT_PERMITTED,
            Self::Refused { status, .. } => match status.as_u16() {
                404 => exit::NO_SUCH_RECORD,
                400 | 413 => exit::REFUSED,
                _ => exit::FAILED,
            },
            Self::TokenFile { .. }
            | Self::Token { .. }
            | Self::Tls(_)
            | Self::Lost(_)
            | Self::NoSuchPath(_)
            | Self::Foreign(_) => exit::FAILED,
        }
    }
}

/// A client of one gateway.
pub(crate) struct AdminClient {
    client: HttpsClient,
    url: String,
    authorization: HeaderValue,
}

impl AdminClient {
    fn open(url: &str, token_file: &Path) -> Result<Self, AdminClientError> {
        parse_http_url(url).ok_or(AdminClientError::Url)?;
        let authorization = read_first_token(token_file)
            .map_err(|source| AdminClientError::TokenFile { path: token_file.into(), source })?
            .and_then(|token| authorization_value("Bearer", &token))
            .ok_or_else(|| AdminClientError::Token { path: token_file.into() })?;
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { client: build_https_client()?, url, authorization })
    }

    pub(crate) async fn list_records(
        &self,
        after: Option<RecordId>,
        limit: u64,
    ) -> Result<RefusedPage, AdminClientError> {
        let after = after.map_or_else(String::new, |id| format!("&after={id}"));
        let path = format!("/refused?limit={}{after}", limit.min(PAGE_ROWS));
        decode(&self.call(Method::GET, &path, Vec::new()).await?)
    }

    /// `after` is the end of an earlier page.
    pub(crate) async fn list_devices(
        &self,
        after: Option<&str>,
        is_overdue: bool,
        limit: u64,
    ) -> Result<DevicePage, AdminClientError> {
        let after = after.map_or_else(String::new, |after| format!("&after={after}"));
        let path = format!("/devices?limit={}&overdue={is_overdue}{after}", limit.min(PAGE_ROWS));
        decode(&self.call(Method::GET, &path, Vec::new()).await?)
    }

    /// The record as the gateway sent it.
    pub(crate) async fn show_record(&self, id: RecordId) -> Result<Bytes, AdminClientError> {
        self.call(Method::GET, &format!("/refused/{id}"), Vec::new()).await
    }

    pub(crate) async fn review_records(
        &self,
        decision: &str,
        selection: &RefusedSelection,
    ) -> Result<ChangedRecords, AdminClientError> {
        decode(&self.call(Method::POST, &format!("/refused/{decision}"), encode(selection)?).await?)
    }

    pub(crate) async fn replace_payload(
        &self,
        id: RecordId,
        payload: Vec<u8>,
    ) -> Result<ChangedRecords, AdminClientError> {
        decode(&self.call(Method::PUT, &format!("/refused/{id}/payload"), payload).await?)
    }

    async fn call(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Bytes, AdminClientError> {
        let uri: Uri = format!("{}/admin{path}", self.url).parse().map_err(|_| AdminClientError::Url)?;
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, self.authorization.clone())
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| AdminClientError::Url)?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| {
                let why = with_causes(&error);
                if error.is_connect() {
                    AdminClientError::Unreachable { url: self.url.clone(), why }
                } else {
                    AdminClientError::Lost(why)
                }
            })?;
            let status = response.status();
            let body = Limited::new(response.into_body(), RESPONSE_BYTES_MAX)
                .collect()
                .await
                .map_err(|error| AdminClientError::Lost(with_causes(error.as_ref())))?;
            Ok::<_, AdminClientError>((status, body.to_bytes()))
        };
        let (status, body) = timeout(RESPONSE_TIMEOUT, exchange)
            .await
            .map_err(|_| AdminClientError::Lost("no response within the time limit".into()))??;
        if status.is_success() {
            return Ok(body);
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(AdminClientError::Unauthorized);
        }
        match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(body) if body.error.code == "NOT_FOUND" => Err(AdminClientError::NoSuchPath(self.url.clone())),
            Ok(body) => Err(AdminClientError::Refused {
                status,
                message: replace_hidden(&body.error.message).into_owned(),
            }),
            Err(_) => Err(AdminClientError::Foreign(format!("HTTP {}", status.as_u16()))),
        }
    }
}

/// The first line that is a token: the file may be that of the gateway.
fn read_first_token(path: &Path) -> io::Result<Option<String>> {
    let text = fs::read_to_string(path)?;
    let is_token = |line: &&str| !line.is_empty() && !line.starts_with('#');
    Ok(text.lines().map(str::trim).find(is_token).map(Into::into))
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, AdminClientError> {
    serde_json::to_vec(value).map_err(|error| AdminClientError::Foreign(error.to_string()))
}

pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, AdminClientError> {
    serde_json::from_slice(body).map_err(|error| AdminClientError::Foreign(error.to_string()))
}
