//! What a batch must look like before anything is done with it.
//!
//! Everything here is a pure function of headers and body. What passes is well formed: its
//! headers agree with its body, its decoded size is bounded, no record is in it twice. A record
//! that is at fault by itself does not spoil its batch: it is marked, and rejected by name.

use std::collections::HashSet;
use std::io::{self, Read};
use std::str::FromStr;

use actix_web::http::header::{CONTENT_ENCODING, HeaderMap};
use flate2::read::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use super::fault_injection::Faults;
use super::ledger::{CheckedBatch, CheckedRecord, sha256};
use super::request_error::Refusal;
use crate::model::{BatchId, DeviceId, Sequence};
use crate::protocol::wire::{
    ATTEMPT, BATCH_ID, BATCH_SEQUENCE, BatchRequest, DEVICE_ID, WireRecord, find_name_fault,
};

/// The content encodings that are taken, as `Accept-Encoding` names them.
pub(crate) const ACCEPTED_ENCODINGS: &str = "zstd, gzip";
/// Frames that need a larger window than 8 MiB could make the decoder take too much memory.
const ZSTD_WINDOW_LOG: u32 = 23;
/// More of a wrong header is not repeated to the client.
const QUOTED_CHARS: usize = 80;

const A_UUID: &str = "a UUID";

/// The headers of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Headers {
    pub(crate) batch: BatchId,
    pub(crate) device: DeviceId,
    pub(crate) sequence: Sequence,
    pub(crate) attempt: u32,
    pub(crate) encoding: Encoding,
}

/// How the body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Zstd,
    Gzip,
}

impl Headers {
    /// Reads the headers of a batch.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        Ok(Self {
            batch: parsed(headers, BATCH_ID, A_UUID)?,
            device: device(headers)?,
            sequence: sequence(headers)?,
            attempt: attempt(headers)?,
            encoding: encoding(headers)?,
        })
    }
}

/// Reads the header that names the device.
pub(crate) fn device(headers: &HeaderMap) -> Result<DeviceId, Refusal> {
    parsed(headers, DEVICE_ID, A_UUID)
}

/// Decodes and checks a body.
pub(crate) fn check(
    body: &[u8],
    headers: &Headers,
    limit: usize,
    faults: &Faults,
) -> Result<CheckedBatch, Refusal> {
    let plain;
    let body = match headers.encoding {
        Encoding::Identity => body,
        Encoding::Gzip => {
            plain = bounded(MultiGzDecoder::new(body), limit, "gzip")?;
            &plain
        }
        Encoding::Zstd => {
            let frames = zstd_frames(body).map_err(|_| Refusal::Undecodable("zstd"))?;
            plain = bounded(frames, limit, "zstd")?;
            &plain
        }
    };
    let batch: BatchRequest = serde_json::from_slice(body).map_err(Refusal::Malformed)?;
    agree(BATCH_ID, &headers.batch, &batch.batch_id)?;
    agree(DEVICE_ID, &headers.device, &batch.device_id)?;
    agree(BATCH_SEQUENCE, &headers.sequence, &batch.sequence)?;
    if batch.records.is_empty() {
        return Err(Refusal::NoRecords);
    }
    let mut seen = HashSet::with_capacity(batch.records.len());
    if let Some(twice) = batch.records.iter().find(|record| !seen.insert(record.id)) {
        return Err(Refusal::RecordTwice(twice.id));
    }
    Ok(CheckedBatch {
        device: batch.device_id,
        id: batch.batch_id,
        fingerprint: sha256(body),
        records: batch
            .records
            .into_iter()
            .map(|record| {
                let fault = record_fault(&record, faults);
                CheckedRecord::new(record, fault)
            })
            .collect(),
    })
}

fn record_fault(record: &WireRecord, faults: &Faults) -> Option<&'static str> {
    let payload = record.payload.get();
    if let Some(fault) = find_name_fault(&record.record_type, record.key.as_deref()) {
        Some(fault)
    } else if !payload.starts_with('{') {
        Some("the payload must be a JSON object")
    } else if faults.rejects(payload) {
        Some("the payload holds data that this server does not take")
    } else {
        None
    }
}

fn zstd_frames(body: &[u8]) -> io::Result<impl Read> {
    let mut decoder = ZstdDecoder::new(body)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    Ok(decoder)
}

/// Reads to the end, but never more than a byte beyond the limit: that is what stops a bomb.
fn bounded(coded: impl Read, limit: usize, name: &'static str) -> Result<Vec<u8>, Refusal> {
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut plain = Vec::new();
    match coded.take(most).read_to_end(&mut plain) {
        Ok(_) if plain.len() > limit => Err(Refusal::TooLarge { limit }),
        Ok(_) => Ok(plain),
        Err(_) => Err(Refusal::Undecodable(name)),
    }
}

fn agree<T: PartialEq + ToString>(name: &'static str, header: &T, body: &T) -> Result<(), Refusal> {
    if header == body {
        return Ok(());
    }
    Err(Refusal::HeaderMismatch { name, header: header.to_string(), body: body.to_string() })
}

fn sequence(headers: &HeaderMap) -> Result<Sequence, Refusal> {
    let text = text(headers, BATCH_SEQUENCE)?;
    let sequence = text
        .split_once('/')
        .and_then(|(index, total)| Some(Sequence { index: number(index)?, total: number(total)? }));
    sequence
        .filter(|sequence| (1..=sequence.total).contains(&sequence.index))
        .ok_or_else(|| malformed(BATCH_SEQUENCE, text, "i/N with 1 ≤ i ≤ N"))
}

fn attempt(headers: &HeaderMap) -> Result<u32, Refusal> {
    let text = text(headers, ATTEMPT)?;
    number(text).filter(|attempt| *attempt >= 1).ok_or_else(|| malformed(ATTEMPT, text, "a number from 1"))
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    if !headers.contains_key(CONTENT_ENCODING) {
        return Ok(Encoding::Identity);
    }
    let text = text(headers, "content-encoding")?;
    match text.to_ascii_lowercase().as_str() {
        "identity" => Ok(Encoding::Identity),
        "zstd" => Ok(Encoding::Zstd),
        "gzip" | "x-gzip" => Ok(Encoding::Gzip),
        _ => Err(Refusal::Encoding(quoted(text))),
    }
}

/// Digits only: the standard parser would take a leading `+`, too.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn parsed<T: FromStr>(headers: &HeaderMap, name: &'static str, expected: &'static str) -> Result<T, Refusal> {
    let text = text(headers, name)?;
    text.parse().map_err(|_| malformed(name, text, expected))
}

fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, Refusal> {
    let value = headers.get(name).ok_or(Refusal::HeaderMissing(name))?;
    value.to_str().map(str::trim).map_err(|_| malformed(name, "…", "plain text"))
}

fn malformed(name: &'static str, value: &str, expected: &'static str) -> Refusal {
    Refusal::HeaderMalformed { name, value: quoted(value), expected }
}

fn quoted(text: &str) -> String {
    text.chars().take(QUOTED_CHARS).collect()
}
