//! Validates a batch request before anything is done with it.
//!
//! Pure functions of headers and body. A batch that passes is well formed: its headers agree with its
//! body, its decoded size is bounded, and no record occurs twice. A faulty record does not spoil its
//! batch: it is marked here, and gets a result of its own that rejects it.

use std::collections::HashSet;
use std::io::{self, Read};
use std::str::FromStr;

use actix_web::http::header::{CONTENT_ENCODING, HeaderMap};
use flate2::read::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use super::digest::sha256;
use super::fault_injection::FaultOptions;
use super::request_error::{RECORDS_MAX, RequestError};
use super::validated_batch::{ValidatedBatch, ValidatedRecord};
use crate::model::{BatchId, DEVICE_NAME_LENGTH_MAX, DeviceId, Sequence};
use crate::protocol::wire::{
    BATCH_ATTEMPT, BATCH_ID, BATCH_SEQUENCE, BatchRequest, DEVICE_ID, DEVICE_NAME, WireRecord,
    find_name_fault,
};

/// The accepted content encodings, for `Accept-Encoding`.
pub(crate) const ACCEPTED_ENCODINGS: &str = "zstd, gzip";
/// 8 MiB: a larger window could make the decoder allocate too much memory.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Parsers of JSON give up at 128 levels, and a payload is forwarded inside of another object.
const PAYLOAD_DEPTH_MAX: usize = 100;
/// An error quotes this much of a wrong header.
const QUOTED_CHARS_MAX: usize = 80;

const UUID_EXPECTED: &str = "a UUID";

/// The headers of a batch request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeaders {
    pub(crate) batch: BatchId,
    pub(crate) device: DeviceId,
    pub(crate) sequence: Sequence,
    pub(crate) attempt: u32,
    pub(crate) encoding: BodyEncoding,
}

/// How the body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyEncoding {
    Identity,
    Zstd,
    Gzip,
}

impl BatchHeaders {
    /// Reads the headers of a batch request.
    pub(crate) fn parse(headers: &HeaderMap) -> Result<Self, RequestError> {
        Ok(Self {
            batch: parse_header(headers, BATCH_ID, UUID_EXPECTED)?,
            device: parse_device_id(headers)?,
            sequence: parse_sequence(headers)?,
            attempt: parse_attempt(headers)?,
            encoding: parse_encoding(headers)?,
        })
    }
}

/// Reads the device's id from its header.
pub(crate) fn parse_device_id(headers: &HeaderMap) -> Result<DeviceId, RequestError> {
    parse_header(headers, DEVICE_ID, UUID_EXPECTED)
}

/// Reads the name of the device for the log; empty if the header is missing or not as the protocol says.
pub(crate) fn read_device_name(headers: &HeaderMap) -> String {
    let name = headers.get(DEVICE_NAME).and_then(|value| value.to_str().ok()).map(str::trim);
    let name = name.filter(|name| {
        name.len() <= DEVICE_NAME_LENGTH_MAX
            && name.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
    });
    name.unwrap_or_default().to_owned()
}

/// Decodes and validates the body of a batch request.
pub(crate) fn validate_batch(
    body: &[u8],
    headers: &BatchHeaders,
    limit: usize,
    faults: &FaultOptions,
) -> Result<ValidatedBatch, RequestError> {
    let plain;
    let body = match headers.encoding {
        BodyEncoding::Identity => body,
        BodyEncoding::Gzip => {
            plain = read_bounded(MultiGzDecoder::new(body), limit, "gzip")?;
            &plain
        }
        BodyEncoding::Zstd => {
            let decoder = zstd_decoder(body).map_err(|_| RequestError::Undecodable("zstd"))?;
            plain = read_bounded(decoder, limit, "zstd")?;
            &plain
        }
    };
    let batch: BatchRequest = serde_json::from_slice(body).map_err(RequestError::Malformed)?;
    check_header_match(BATCH_ID, &headers.batch, &batch.batch_id)?;
    check_header_match(DEVICE_ID, &headers.device, &batch.device_id)?;
    check_header_match(BATCH_SEQUENCE, &headers.sequence, &batch.sequence)?;
    if batch.records.is_empty() {
        return Err(RequestError::NoRecords);
    }
    if batch.records.len() > RECORDS_MAX {
        return Err(RequestError::TooManyRecords { records: batch.records.len() });
    }
    let mut seen = HashSet::with_capacity(batch.records.len());
    if let Some(repeated) = batch.records.iter().find(|record| !seen.insert(record.id)) {
        return Err(RequestError::RecordTwice(repeated.id));
    }
    Ok(ValidatedBatch {
        device: batch.device_id,
        id: batch.batch_id,
        fingerprint: sha256(body),
        records: batch
            .records
            .into_iter()
            .map(|record| {
                let fault = find_record_fault(&record, faults);
                ValidatedRecord::new(record, fault)
            })
            .collect(),
    })
}

fn find_record_fault(record: &WireRecord, faults: &FaultOptions) -> Option<&'static str> {
    let payload = record.payload.get();
    if let Some(fault) = find_name_fault(&record.record_type, record.key.as_deref()) {
        Some(fault)
    } else if !payload.starts_with('{') {
        Some("the payload must be a JSON object")
    } else if json_depth(payload) > PAYLOAD_DEPTH_MAX {
        Some("the payload is nested too deeply: systems behind this server could not read it")
    } else if faults.should_reject(payload) {
        Some("the payload holds data that this server does not accept")
    } else {
        None
    }
}

/// How deeply arrays and objects are nested in valid JSON.
fn json_depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut is_text, mut is_escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            b'{' | b'[' if !is_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !is_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn zstd_decoder(body: &[u8]) -> io::Result<impl Read> {
    let mut decoder = ZstdDecoder::new(body)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(decoder)
}

/// Reads to the end, but at most one byte beyond the limit, so that a decompression bomb stops here.
fn read_bounded(decoder: impl Read, limit: usize, name: &'static str) -> Result<Vec<u8>, RequestError> {
    let read_max = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut plain = Vec::new();
    match decoder.take(read_max).read_to_end(&mut plain) {
        Ok(_) if plain.len() > limit => Err(RequestError::BodyTooLarge { limit }),
        Ok(_) => Ok(plain),
        Err(_) => Err(RequestError::Undecodable(name)),
    }
}

fn check_header_match<T: PartialEq + ToString>(
    name: &'static str,
    header: &T,
    body: &T,
) -> Result<(), RequestError> {
    if header == body {
        return Ok(());
    }
    Err(RequestError::HeaderMismatch { name, header: header.to_string(), body: body.to_string() })
}

fn parse_sequence(headers: &HeaderMap) -> Result<Sequence, RequestError> {
    let text = header_text(headers, BATCH_SEQUENCE)?;
    let sequence = text.split_once('/').and_then(|(index, total)| {
        Some(Sequence { index: parse_digits(index)?, total: parse_digits(total)? })
    });
    sequence
        .filter(|sequence| (1..=sequence.total).contains(&sequence.index))
        .ok_or_else(|| malformed_header(BATCH_SEQUENCE, text, "i/N with 1 ≤ i ≤ N"))
}

fn parse_attempt(headers: &HeaderMap) -> Result<u32, RequestError> {
    let text = header_text(headers, BATCH_ATTEMPT)?;
    parse_digits(text)
        .filter(|attempt| *attempt >= 1)
        .ok_or_else(|| malformed_header(BATCH_ATTEMPT, text, "a number from 1"))
}

fn parse_encoding(headers: &HeaderMap) -> Result<BodyEncoding, RequestError> {
    if !headers.contains_key(CONTENT_ENCODING) {
        return Ok(BodyEncoding::Identity);
    }
    let text = header_text(headers, "content-encoding")?;
    match text.to_ascii_lowercase().as_str() {
        "identity" => Ok(BodyEncoding::Identity),
        "zstd" => Ok(BodyEncoding::Zstd),
        "gzip" | "x-gzip" => Ok(BodyEncoding::Gzip),
        _ => Err(RequestError::UnsupportedEncoding(quote_start(text))),
    }
}

/// Digits only: the standard parser would accept a leading `+`, too.
fn parse_digits(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn parse_header<T: FromStr>(
    headers: &HeaderMap,
    name: &'static str,
    expected: &'static str,
) -> Result<T, RequestError> {
    let text = header_text(headers, name)?;
    text.parse().map_err(|_| malformed_header(name, text, expected))
}

fn header_text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, RequestError> {
    let value = headers.get(name).ok_or(RequestError::HeaderMissing(name))?;
    value.to_str().map(str::trim).map_err(|_| malformed_header(name, "…", "plain text"))
}

fn malformed_header(name: &'static str, value: &str, expected: &'static str) -> RequestError {
    RequestError::HeaderMalformed { name, value: quote_start(value), expected }
}

fn quote_start(text: &str) -> String {
    text.chars().take(QUOTED_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_depth_of_json_does_not_count_brackets_in_texts() {
        for (text, depth) in [
            ("{}", 1),
            (r#"{"a":[{"b":[]},{}]}"#, 4),
            (r#"{"[[[":"{{{ \"[[[\" \\"}"#, 1),
            (r#"{"a":"\\","b":[1]}"#, 2),
        ] {
            assert_eq!(json_depth(text), depth, "{text}");
        }
    }
}
