//! Content encodings (RFC 9110 §8.4): which ones a server accepts, encoding of requests, and decoding of responses
//! that are encoded although no encoding was asked for.
//!
//! An encoding is used only if the server clearly accepts it: a plain body is never wrong.

use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use thiserror::Error;
use zstd::stream::read::Decoder as ZstdDecoder;

use crate::config;
use crate::protocol::exchange::truncate_text;

/// The levels that are closest to the best over links from 64 kbit/s to 10 Mbit/s, even on slow processors:
/// `benches/README.md` has the figures.
const ZSTD_LEVEL: i32 = 7;
const GZIP_LEVEL: u32 = 6;

/// Largest window that a response may ask for, as a power of two: 8 MiB, the maximum of RFC 9659.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Why a response cannot be decoded.
#[derive(Debug, Error)]
pub(super) enum UndecodableResponse {
    /// The decoded body exceeds the limit.
    #[error("the response is larger than server.max_answer_bytes")]
    TooLarge,
    /// The body is corrupt.
    #[error("it is encoded as {0}, and cannot be decoded: {1}")]
    Damaged(&'static str, io::Error),
    /// The encoding is not known.
    #[error("it is encoded as {0:?}, although no encoding was asked for")]
    Unknown(String),
}

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentEncoding {
    /// RFC 8878
    Zstd,
    /// RFC 1952
    Gzip,
}

impl ContentEncoding {
    /// For `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// The names in `Accept-Encoding`, including historic ones.
    fn accepted_names(self) -> &'static [&'static str] {
        match self {
            Self::Zstd => &["zstd"],
            Self::Gzip => &["gzip", "x-gzip"],
        }
    }

    /// The encoding to use: as configured, or the best one that the server accepts.
    pub fn choose(config: config::Compression, accepted: &[Self]) -> Option<Self> {
        match config {
            config::Compression::Zstd => Some(Self::Zstd),
            config::Compression::Gzip => Some(Self::Gzip),
            config::Compression::None => None,
            config::Compression::Auto => {
                [Self::Zstd, Self::Gzip].into_iter().find(|encoding| accepted.contains(encoding))
            }
        }
    }

    /// The encodings that an `Accept-Encoding` header accepts: by name, else by `*`, with a weight above 0.
    pub fn parse_accepted(header: &str) -> Vec<Self> {
        let accepts = |names: &[&str]| {
            let named = header.split(',').filter_map(|item| {
                let (coding, parameters) = item.split_once(';').unwrap_or((item, ""));
                let coding = coding.trim();
                names
                    .iter()
                    .any(|name| coding.eq_ignore_ascii_case(name))
                    .then(|| has_positive_weight(parameters))
            });
            named.reduce(|one, other| one || other)
        };
        [Self::Zstd, Self::Gzip]
            .into_iter()
            .filter(|encoding| {
                accepts(encoding.accepted_names()).or_else(|| accepts(&["*"])).unwrap_or(false)
            })
            .collect()
    }

    /// Detects the encoding of a body by its first bytes.
    fn detect(body: &[u8]) -> Option<Self> {
        match body {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            _ => None,
        }
    }

    fn decode_bounded(self, body: &[u8], limit: usize) -> Result<Bytes, UndecodableResponse> {
        let mut plain = Vec::new();
        let read_max = limit.saturating_add(1) as u64;
        let read = match self {
            Self::Gzip => MultiGzDecoder::new(body).take(read_max).read_to_end(&mut plain),
            Self::Zstd => ZstdDecoder::with_buffer(body).and_then(|mut decoder| {
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                decoder.take(read_max).read_to_end(&mut plain)
            }),
        };
        match read {
            Ok(_) if plain.len() > limit => Err(UndecodableResponse::TooLarge),
            Ok(_) => Ok(plain.into()),
            Err(error) => Err(UndecodableResponse::Damaged(self.name(), error)),
        }
    }

    /// Encodes a body.
    pub fn encode(self, body: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            // In one call: a large body takes a third less memory than as a stream, in the same time.
            Self::Zstd => zstd::bulk::compress(body, ZSTD_LEVEL),
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL));
                encoder.write_all(body)?;
                encoder.finish()
            }
        }
    }
}

/// Decodes the body of a response, to at most `limit` bytes. The first bytes show the encoding, because no JSON
/// begins with them: an intermediary may decode a body and keep the header field, or the other way round.
pub(super) fn decode_body(
    content_encoding: Option<&str>,
    body: Bytes,
    limit: usize,
) -> Result<Bytes, UndecodableResponse> {
    if let Some(encoding) = ContentEncoding::detect(&body) {
        return encoding.decode_bounded(&body, limit);
    }
    let names =
        content_encoding.unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty());
    let is_known = |name: &str| {
        let known = ContentEncoding::Zstd
            .accepted_names()
            .iter()
            .chain(ContentEncoding::Gzip.accepted_names())
            .chain(&["identity"]);
        known.into_iter().any(|known| name.eq_ignore_ascii_case(known))
    };
    match names.into_iter().find(|name| !is_known(name)) {
        Some(unknown) if !body.is_empty() => {
            Err(UndecodableResponse::Unknown(truncate_text(unknown.to_owned())))
        }
        _ => Ok(body),
    }
}

/// A missing weight counts as positive, an invalid one as zero: a plain body is never wrong.
fn has_positive_weight(parameters: &str) -> bool {
    parameters
        .split(';')
        .filter_map(|parameter| parameter.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
        .all(|(_, weight)| weight.trim().parse::<f32>().is_ok_and(|weight| weight > 0.0 && weight <= 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::ContentEncoding::{Gzip, Zstd};
    use super::*;

    #[test]
    fn accept_encoding_is_read_with_weights() {
        for (header, expected) in [
            ("zstd, gzip", &[Zstd, Gzip][..]),
            ("gzip;q=0.5, ZSTD;q=1.0", &[Zstd, Gzip]),
            ("gzip;q=0, zstd", &[Zstd]),
            ("gzip; q=0.0", &[]),
            ("br, identity", &[]),
            ("", &[]),
            // Historic names, and spaces where RFC 9110 allows them.
            ("x-gzip", &[Gzip]),
            ("X-GZIP ; Q=0.001 ,\tbr", &[Gzip]),
            (",, zstd ;\t q=1.000 ,", &[Zstd]),
            ("zstd;window=23;q=0.2", &[Zstd]),
            // `*` stands for every encoding that is not named.
            ("*", &[Zstd, Gzip]),
            ("*;q=0.1, zstd;q=0", &[Gzip]),
            ("gzip, *;q=0", &[Gzip]),
            ("*;q=0", &[]),
            // Rejecting plain bodies accepts no other encoding.
            ("identity;q=0", &[]),
            ("identity;q=0, gzip", &[Gzip]),
            // One accepted name is enough.
            ("x-gzip;q=0, gzip", &[Gzip]),
            ("zstd;q=0, zstd;q=0", &[]),
            // Invalid weights.
            ("gzip;q=", &[]),
            ("gzip;q=NaN, zstd;q=inf", &[]),
            ("gzip;q=-0, zstd;q=-1", &[]),
            ("gzip;q=1.5", &[]),
            ("gzip;q=one", &[]),
            // Other names.
            ("zstdx, gzi p, gzip2, deflate", &[]),
            ("g\u{17f}ip, \u{212a}", &[]),
        ] {
            assert_eq!(ContentEncoding::parse_accepted(header), expected, "{header:?}");
        }
    }

    proptest! {
        #[test]
        fn any_header_can_be_parsed(
            header in prop_oneof![any::<String>(), "((zstd|x-gzip|gzip|\\*|identity)?[ ;,=q0-9.-]{0,6}){0,9}"],
        ) {
            let accepted = ContentEncoding::parse_accepted(&header);
            let lower = header.to_ascii_lowercase();
            for encoding in accepted {
                prop_assert!(lower.contains(encoding.name()) || lower.contains('*'), "{encoding:?} in {header:?}");
            }
        }

        #[test]
        fn encoding_is_reversible_and_deterministic(
            body in prop_oneof![prop::collection::vec(any::<u8>(), 0..1000), "[a-f{}\":,]{0,1000}".prop_map(String::into_bytes)],
        ) {
            let zstd = Zstd.encode(&body)?;
            let mut plain = Vec::new();
            let gzip = Gzip.encode(&body)?;
            io::copy(&mut flate2::read::GzDecoder::new(gzip.as_slice()), &mut plain)?;
            prop_assert_eq!((&zstd::decode_all(zstd.as_slice())?, &plain), (&body, &body));
            for encoded in [&zstd, &gzip] {
                prop_assert_eq!(&decode_body(None, Bytes::copy_from_slice(encoded), body.len()).unwrap(), &body);
                let cut = encoded.get(..encoded.len() - 1).unwrap();
                prop_assert!(decode_body(None, Bytes::copy_from_slice(cut), body.len()).is_err());
            }
            prop_assert_eq!((Zstd.encode(&body)?, Gzip.encode(&body)?), (zstd, gzip));
        }

        #[test]
        fn any_response_is_decoded_within_the_limit(
            magic in prop::sample::select(vec![&b""[..], b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd"]),
            rest in prop::collection::vec(any::<u8>(), 0..300), field in prop::option::of(any::<String>()),
        ) {
            let body = [magic, rest.as_slice()].concat();
            if let Ok(plain) = decode_body(field.as_deref(), body.into(), 1000) {
                prop_assert!(plain.len() <= 1000);
            }
        }
    }

    #[test]
    fn a_response_is_decoded_whatever_its_header_says_and_only_to_the_limit() {
        let json = br#"{"results":[]}"#;
        let decoded = |field, body: &[u8], limit| {
            decode_body(field, Bytes::copy_from_slice(body), limit).map_err(|error| error.to_string())
        };
        let (gzip, zstd) = (Gzip.encode(json).unwrap(), Zstd.encode(json).unwrap());
        for body in [&gzip, &zstd, &json.to_vec()] {
            for field in
                [None, Some("gzip"), Some("X-Gzip"), Some("zstd"), Some("identity, gzip"), Some(" ,")]
            {
                assert_eq!(decoded(field, body, json.len()).unwrap(), &json[..], "{field:?}");
            }
        }
        for bomb in [Gzip.encode(&vec![b' '; 10 << 20]).unwrap(), Zstd.encode(&vec![b' '; 10 << 20]).unwrap()]
        {
            assert!(decoded(None, &bomb, 1 << 20).unwrap_err().contains("server.max_answer_bytes"));
        }
        assert!(decoded(Some("gzip, br"), b"\x0b\x02\x80", 100).unwrap_err().contains("\"br\""));
        assert_eq!(decoded(Some("br"), b"", 100).unwrap(), &b""[..], "an empty body has no encoding");
        assert!(decoded(None, &gzip[..gzip.len() - 3], 100).unwrap_err().contains("encoded as gzip"));
    }

    #[test]
    fn auto_prefers_zstd_and_sends_plain_until_the_server_names_encodings() {
        use config::Compression::Auto;
        assert_eq!(ContentEncoding::choose(Auto, &[Gzip, Zstd]), Some(Zstd));
        assert_eq!(ContentEncoding::choose(Auto, &[Gzip]), Some(Gzip));
        assert_eq!(ContentEncoding::choose(Auto, &[]), None);
        assert_eq!(ContentEncoding::choose(config::Compression::None, &[Zstd]), None);
        assert_eq!(ContentEncoding::choose(config::Compression::Gzip, &[]), Some(Gzip));
    }
}
