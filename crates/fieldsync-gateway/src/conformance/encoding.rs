//! Encoded bodies, and the encodings that a server accepts.

use std::io::{self, Write};

use actix_web::web::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::HeaderMap;
use hyper::header::ACCEPT_ENCODING;
use zstd::stream::write::Encoder as ZstdEncoder;

use super::finding::{Finding, PointResult};

const ZSTD_LEVEL: i32 = 3;
/// Written repeatedly into a large body.
const FILLING_BYTES: usize = 1 << 20;

/// An encoding that devices use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KitEncoding {
    Zstd,
    Gzip,
}

impl KitEncoding {
    pub(super) const ALL: [Self; 2] = [Self::Zstd, Self::Gzip];

    /// As in `Content-Encoding`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    pub(super) fn encode(self, body: &[u8]) -> PointResult<Bytes> {
        self.encode_filled(body, 0, b"")
    }

    /// `start`, then so many bytes `a`, then `end`: never as a whole in memory.
    pub(super) fn encode_filled(self, start: &[u8], filling: usize, end: &[u8]) -> PointResult<Bytes> {
        let encoded = match self {
            Self::Zstd => ZstdEncoder::new(Vec::new(), ZSTD_LEVEL).and_then(|mut encoder| {
                write_filled(&mut encoder, start, filling, end)?;
                encoder.finish()
            }),
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
                write_filled(&mut encoder, start, filling, end).and_then(|()| encoder.finish())
            }
        };
        encoded
            .map(Bytes::from)
            .map_err(|error| Finding::skipped(format!("the body cannot be encoded: {error}")))
    }
}

fn write_filled(out: &mut impl Write, start: &[u8], filling: usize, end: &[u8]) -> io::Result<()> {
    out.write_all(start)?;
    let part = vec![b'a'; FILLING_BYTES.min(filling)];
    let mut left = filling;
    while left > 0 {
        let now = left.min(part.len());
        out.write_all(&part[..now])?;
        left -= now;
    }
    out.write_all(end)
}

/// Whether a response lists this encoding as acceptable (RFC 9110 §12.5.3).
pub(super) fn lists_encoding(headers: &HeaderMap, encoding: KitEncoding) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let is_named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(encoding.name()));
        let is_excluded = parts.any(|part| {
            let weight = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
            weight.is_some_and(|weight| weight.parse() == Ok(0.0_f32))
        });
        is_named && !is_excluded
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_filled_body_decodes_to_its_parts() {
        let encoded = KitEncoding::Zstd.encode_filled(b"<", FILLING_BYTES + 7, b">").unwrap();
        let plain = zstd::stream::decode_all(&encoded[..]).unwrap();
        assert_eq!((plain[0], plain.len(), plain[plain.len() - 1]), (b'<', FILLING_BYTES + 9, b'>'));
        let encoded = KitEncoding::Gzip.encode(b"{}").unwrap();
        let mut plain = String::new();
        flate2::read::GzDecoder::new(&encoded[..]).read_to_string(&mut plain).unwrap();
        assert_eq!(plain, "{}");
    }

    #[test]
    fn an_encoding_is_listed_unless_its_weight_is_zero() {
        for (value, zstd, gzip) in [
            ("zstd, gzip", true, true),
            ("GZIP;q=0.5, identity", false, true),
            ("zstd;q=0, gzip;q=0.0", false, false),
            ("", false, false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, value.parse().unwrap())]);
            assert_eq!(lists_encoding(&headers, KitEncoding::Zstd), zstd, "{value}");
            assert_eq!(lists_encoding(&headers, KitEncoding::Gzip), gzip, "{value}");
        }
    }
}
