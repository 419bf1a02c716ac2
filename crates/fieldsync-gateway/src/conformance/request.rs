//! Requests of the kit, correct ones and those that a point spoils on purpose.

use std::convert::Infallible;

use actix_web::web::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method};

use super::sample::SampleBatch;
use crate::model::{BatchId, DeviceId};
use crate::protocol::wire::{BATCH_ATTEMPT, BATCH_ID, BATCH_SEQUENCE, DEVICE_ID, DEVICE_NAME};

/// What the kit calls its devices.
const KIT_NAME: &str = "fieldsync conformance kit";
/// Parts of a body that is sent in chunks.
const CHUNK_BYTES: usize = 100;

/// The body of a request on the wire.
pub(super) type WireBody = UnsyncBoxBody<Bytes, Infallible>;

/// A request to the batch endpoint.
#[derive(Clone, Debug)]
pub(super) struct KitRequest {
    pub(super) method: Method,
    /// What follows the path of the endpoint.
    pub(super) suffix: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Without `Content-Length`, in chunks.
    pub(super) is_chunked: bool,
    /// Without the token, where there is one.
    pub(super) token: TokenUse,
}

/// Which token a request shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenUse {
    /// That of `--token-file`, if given.
    Configured,
    Missing,
    Wrong,
}

impl KitRequest {
    /// The request that sends a batch.
    pub(super) fn post(batch: &SampleBatch) -> Self {
        let mut request = Self::new(Method::POST, batch.device);
        request.body = batch.body().into();
        request
            .with(BATCH_ID, batch.id.to_string())
            .with(BATCH_SEQUENCE, "1/1")
            .with(BATCH_ATTEMPT, "1")
            .with(CONTENT_TYPE.as_str(), "application/json")
    }

    /// The resend of a batch.
    pub(super) fn resend(batch: &SampleBatch, attempt: u32) -> Self {
        Self::post(batch).with(BATCH_ATTEMPT, attempt.to_string())
    }

    /// The query for the outcome of a batch.
    pub(super) fn look_up(device: DeviceId, batch: BatchId) -> Self {
        Self::look_up_text(device, &batch.to_string())
    }

    /// As [`Self::look_up`], with any text for the batch id.
    pub(super) fn look_up_text(device: DeviceId, batch: &str) -> Self {
        let mut request = Self::new(Method::GET, device);
        request.suffix = format!("/{batch}");
        request
    }

    fn new(method: Method, device: DeviceId) -> Self {
        let request = Self {
            method,
            suffix: String::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            is_chunked: false,
            token: TokenUse::Configured,
        };
        request.with(DEVICE_ID, device.to_string()).with(DEVICE_NAME, KIT_NAME)
    }

    /// With this header, instead of the one of this name. A value that no header can have is left out.
    pub(super) fn with(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        if let Ok(value) = HeaderValue::from_bytes(value.as_ref()) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    pub(super) fn without(mut self, name: &'static str) -> Self {
        self.headers.remove(name);
        self
    }

    pub(super) fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub(super) fn with_encoded_body(self, encoding: &'static str, body: impl Into<Bytes>) -> Self {
        self.with_body(body).with(CONTENT_ENCODING.as_str(), encoding)
    }

    pub(super) fn with_method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    pub(super) fn with_token(mut self, token: TokenUse) -> Self {
        self.token = token;
        self
    }

    pub(super) fn in_chunks(mut self) -> Self {
        self.is_chunked = true;
        self
    }

    /// The body as it goes over the wire.
    pub(super) fn wire_body(&self) -> WireBody {
        if !self.is_chunked {
            return Full::new(self.body.clone()).boxed_unsync();
        }
        let chunks: Vec<Bytes> = self.body.chunks(CHUNK_BYTES).map(Bytes::copy_from_slice).collect();
        let frames = chunks.into_iter().map(|chunk| Ok(Frame::data(chunk)));
        StreamBody::new(stream::iter(frames)).boxed_unsync()
    }
}
