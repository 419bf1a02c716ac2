//! What the device knows of its records, one by one.

use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Method;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::runtime::Builder;

use crate::support::http::request;

/// `GET /v1/records/{id}` for each of them, on one connection: there are thousands.
pub(super) fn read_details(socket: &Path, ids: &[String]) -> Vec<Value> {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = UnixStream::connect(socket).await.unwrap();
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut details = Vec::with_capacity(ids.len());
        for id in ids {
            details.push(read_detail(&mut sender, id).await);
        }
        connection.abort();
        details
    })
}

async fn read_detail(sender: &mut SendRequest<Full<Bytes>>, id: &str) -> Value {
    sender.ready().await.unwrap();
    let request = request(Method::GET, &format!("/v1/records/{id}"), "localhost", &[], Vec::new());
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200, "{id}");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}
