//! The status that a device reports about itself.

use std::time::Duration;

use actix_web::http::header::{CONTENT_ENCODING, HeaderMap};
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use tokio::time::timeout;

use super::GatewayState;
use super::request_metrics::count_refusal;
use crate::batch_validation;
use crate::clock::wall_ms;
use crate::model::DeviceId;
use crate::protocol::device_status::{DeviceStatus, STATUS_BYTES_MAX};
use crate::protocol::wire::DEVICE_ID;
use crate::request_error::RequestError;

/// The whole body has to arrive in this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) async fn post_status(
    request: HttpRequest,
    device: Path<String>,
    payload: Payload,
    state: Data<GatewayState>,
) -> HttpResponse {
    match state.take_status(&request, &device, payload).await {
        Ok(()) => HttpResponse::NoContent().finish(),
        Err(error) => {
            count_refusal(&state.metrics, &error);
            error.error_response()
        }
    }
}

impl GatewayState {
    async fn take_status(
        &self,
        request: &HttpRequest,
        device: &str,
        payload: Payload,
    ) -> Result<(), RequestError> {
        let headers = request.headers();
        let scope = self.authorize(request)?;
        let device: DeviceId = device.parse().map_err(|_| {
            RequestError::InvalidStatus("the path needs the id of a device: a UUID was expected")
        })?;
        if !scope.covers(device) {
            return Err(RequestError::OtherDevice(device));
        }
        if headers.contains_key(DEVICE_ID) && batch_validation::parse_device_id(headers)? != device {
            return Err(RequestError::InvalidStatus(
                "the header x-sync-device-id and the path name two devices",
            ));
        }
        if is_encoded(headers) {
            return Err(RequestError::StatusEncoded);
        }
        let body = timeout(BODY_TIMEOUT, payload.to_bytes_limited(STATUS_BYTES_MAX))
            .await
            .map_err(|_| RequestError::BodyTooSlow)?
            .map_err(|_| RequestError::BodyTooLarge { limit: STATUS_BYTES_MAX })?
            .map_err(|_| RequestError::BodyInterrupted)?;
        // An array could be read as one, too.
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Err(RequestError::InvalidStatus("the body must be a JSON object"));
        }
        let status: DeviceStatus = serde_json::from_slice(&body).map_err(RequestError::MalformedStatus)?;
        if let Some(fault) = status.find_fault() {
            return Err(RequestError::InvalidStatus(fault));
        }
        let name = batch_validation::read_device_name(headers);
        self.fleet.contacts.note_status(device, name, status, wall_ms());
        Ok(())
    }
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_ENCODING)
        .is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}
