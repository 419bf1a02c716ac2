//! What is a batch, and what is refused before anything is applied.

use std::collections::HashSet;
use std::io::Read;

use flate2::read::MultiGzDecoder;
use serde_json::Value;
use uuid::Uuid;
use zstd::stream::read::Decoder as ZstdDecoder;

use super::ServerFault;
use super::wire::Arrived;

/// The largest body, decoded.
const BODY_BYTES_MAX: u64 = 16 << 20;
/// For servers that take less than others.
const FEW_BYTES: usize = 16 << 10;
const FEW_RECORDS: usize = 100;

/// A batch that may be applied.
pub(super) struct AcceptedBatch {
    pub(super) id: String,
    pub(super) device: String,
    /// The decoded body.
    pub(super) body: Vec<u8>,
    pub(super) records: Vec<Value>,
}

impl AcceptedBatch {
    /// Whether this body has records with the same ids.
    pub(super) fn has_records_of(&self, body: &[u8]) -> bool {
        let ids = |records: &[Value]| records.iter().map(|record| record["id"].clone()).collect::<Vec<_>>();
        let json: Value = serde_json::from_slice(body).unwrap();
        json["records"].as_array().is_some_and(|records| ids(records) == ids(&self.records))
    }
}

/// Status and code of a refusal.
type Refusal = (u16, &'static str);

const INVALID: Refusal = (400, "INVALID_REQUEST");

pub(super) fn validate_batch(request: &Arrived, faults: &[ServerFault]) -> Result<AcceptedBatch, Refusal> {
    let has = |fault| faults.contains(&fault);
    let ids = ["x-sync-batch-id", "x-sync-device-id"].map(|name| request.header(name));
    if ids.iter().any(|id| id.parse::<Uuid>().is_err()) {
        return Err(INVALID);
    }
    let limit = if has(ServerFault::DecodesWithoutLimit) { u64::MAX } else { BODY_BYTES_MAX };
    let body = match request.header("content-encoding") {
        _ if request.body.len() as u64 > BODY_BYTES_MAX => return Err((413, "BODY_TOO_LARGE")),
        "" | "identity" => request.body.clone(),
        "gzip" => decode(MultiGzDecoder::new(&request.body[..]), limit)?,
        "zstd" => decode(ZstdDecoder::new(&request.body[..]).map_err(|_| INVALID)?, limit)?,
        _ if has(ServerFault::UnknownEncodingIs400) => return Err(INVALID),
        _ => return Err((415, "UNSUPPORTED_ENCODING")),
    };
    let salvaged = || if has(ServerFault::TakesTruncatedBody) { salvage(&body) } else { None };
    let mut json: Value = serde_json::from_slice(&body).ok().or_else(salvaged).ok_or(INVALID)?;
    let named = ["batch_id", "device_id"].map(|name| json[name].as_str().unwrap_or_default().to_owned());
    if named != ids && !has(ServerFault::IgnoresHeaderMismatch) {
        return Err(INVALID);
    }
    if has(ServerFault::TakesFewBytes) && body.len() > FEW_BYTES {
        return Err((413, "BODY_TOO_LARGE"));
    }
    let Some(Value::Array(records)) = json.get_mut("records").map(Value::take) else { return Err(INVALID) };
    if has(ServerFault::TakesFewRecords) && records.len() > FEW_RECORDS {
        return Err((413, "TOO_MANY_RECORDS"));
    }
    let mut seen = HashSet::new();
    let is_record = |record: &Value| {
        let id = record["id"].as_str().unwrap_or_default();
        let is_new = id.parse::<Uuid>().is_ok_and(|id| seen.insert(id));
        is_new && record["type"].is_string() && record["payload"].is_object()
    };
    if records.is_empty() || !records.iter().all(is_record) {
        return Err(INVALID);
    }
    let [id, device] = ids.map(str::to_owned);
    Ok(AcceptedBatch { id, device, body, records })
}

fn decode(decoder: impl Read, limit: u64) -> Result<Vec<u8>, Refusal> {
    let mut plain = Vec::new();
    decoder.take(limit.saturating_add(1)).read_to_end(&mut plain).map_err(|_| INVALID)?;
    if plain.len() as u64 > limit { Err((413, "BODY_TOO_LARGE")) } else { Ok(plain) }
}

/// The batch with the records that arrived whole.
fn salvage(body: &[u8]) -> Option<Value> {
    let text = str::from_utf8(body).ok()?;
    let end = text.rfind("}}")? + "}}".len();
    serde_json::from_str(&format!("{}]}}", &text[..end])).ok()
}
