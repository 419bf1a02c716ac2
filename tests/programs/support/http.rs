//! One HTTP exchange over any stream.

use bytes::Bytes;
use fieldsync::protocol::wire::{BatchResponse, RecordStatus};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::{Method, Request, header::HeaderMap};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use super::wait::DEADLINE;

/// Builds a request.
pub(crate) fn request(
    method: Method,
    path: &str,
    host: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header("host", host);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(Bytes::from(body))).unwrap()
}

/// Connects, sends, and reads the complete response. `None` if the other side ends during the exchange.
pub(crate) fn exchange<S>(
    connect: impl Future<Output = std::io::Result<S>>,
    request: Request<Full<Bytes>>,
) -> Option<HttpResponse>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let exchange = async {
            let (mut sender, connection) = http1::handshake(TokioIo::new(connect.await.ok()?)).await.ok()?;
            let connection = tokio::spawn(connection);
            let response = sender.send_request(request).await.ok()?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.ok()?.to_bytes();
            connection.abort();
            Some(HttpResponse { status: parts.status.as_u16(), headers: parts.headers, body })
        };
        tokio::time::timeout(DEADLINE, exchange).await.expect("a response within the deadline")
    })
}

/// The headers in the form for [`request`].
pub(crate) fn borrow_headers(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// A response.
#[derive(Debug)]
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl HttpResponse {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The JSON of a response with the expected status.
    #[track_caller]
    pub(crate) fn expect_json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        self.json()
    }

    /// The response to a batch.
    pub(crate) fn batch(&self) -> BatchResponse {
        assert_eq!(self.status, 200, "{}", self.text());
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Code and message of an error response.
    pub(crate) fn error(&self) -> (String, String) {
        let body = self.json();
        let text = |name: &str| body["error"][name].as_str().unwrap().to_owned();
        (text("code"), text("message"))
    }

    pub(crate) fn code(&self) -> String {
        self.error().0
    }
}

/// The statuses of a response, in order.
pub(crate) fn statuses(answer: &BatchResponse) -> Vec<RecordStatus> {
    answer.results.iter().map(|result| result.status).collect()
}
