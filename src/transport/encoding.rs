//! Encodings of bodies (RFC 9110 §8.4): which one a server takes, how a body gets it, and how an answer
//! is decoded that got one although none was asked for.
//!
//! What a server says is read in its favour only where it is clear; a plain body is never wrong.

use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use thiserror::Error;
use zstd::stream::read::Decoder as ZstdDecoder;

use crate::config;
use crate::protocol::exchange::truncate_text;

/// The levels that lose least against the best on links from 64 kbit/s to 10 Mbit/s, on slow processors,
/// too: `benches/README.md` has the figures.
const ZSTD_LEVEL: i32 = 7;
const GZIP_LEVEL: u32 = 6;

/// Largest window that an answer may ask for, as a power of two: 8 MiB, the most of RFC 9659.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Why an answer cannot be decoded.
#[derive(Debug, Error)]
pub(super) enum UndecodableAnswer {
    /// More comes out of it than may be kept.
    #[error("the answer is larger than server.max_answer_bytes")]
    TooLarge,
    /// It is damaged.
    #[error("it is encoded as {0}, and cannot be decoded: {1}")]
    Damaged(&'static str, io::Error),
    /// It is encoded in another way.
    #[error("it is encoded as {0:?}, although no encoding was asked for")]
    Unknown(String),
}

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// RFC 8878
    Zstd,
    /// RFC 1952
    Gzip,
}

impl Encoding {
    /// For `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// In `Accept-Encoding`: the name, and what servers of old call it.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Zstd => &["zstd"],
            Self::Gzip => &["gzip", "x-gzip"],
        }
    }

    /// The encoding to use: as configured, or the best that the server says it takes.
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

    /// The encodings that an `Accept-Encoding` takes: by name, else by `*`, with a weight above 0.
    pub fn accepted(header: &str) -> Vec<Self> {
        let takes = |names: &[&str]| {
            let named = header.split(',').filter_map(|item| {
                let (coding, parameters) = item.split_once(';').unwrap_or((item, ""));
                let coding = coding.trim();
                names.iter().any(|name| coding.eq_ignore_ascii_case(name)).then(|| is_wanted(parameters))
            });
            named.reduce(|one, other| one || other)
        };
        [Self::Zstd, Self::Gzip]
            .into_iter()
            .filter(|encoding| takes(encoding.names()).or_else(|| takes(&["*"])).unwrap_or(false))
            .collect()
    }

    /// The encoding that a body has, by its first bytes.
    fn of_encoded(body: &[u8]) -> Option<Self> {
        match body {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            _ => None,
        }
    }

    /// What was encoded.
    fn decode(self, body: &[u8], limit: usize) -> Result<Bytes, UndecodableAnswer> {
        let mut plain = Vec::new();
        let bounded = limit.saturating_add(1) as u64;
        let read = match self {
            Self::Gzip => MultiGzDecoder::new(body).take(bounded).read_to_end(&mut plain),
            Self::Zstd => ZstdDecoder::with_buffer(body).and_then(|mut decoder| {
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                decoder.take(bounded).read_to_end(&mut plain)
            }),
        };
        match read {
            Ok(_) if plain.len() > limit => Err(UndecodableAnswer::TooLarge),
            Ok(_) => Ok(plain.into()),
            Err(error) => Err(UndecodableAnswer::Damaged(self.name(), error)),
        }
    }

    /// The body, encoded.
    pub fn encode(self, body: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            // All at once: a large body takes a third less memory so than as a stream, in the same time.
            Self::Zstd => zstd::bulk::compress(body, ZSTD_LEVEL),
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL));
                encoder.write_all(body)?;
                encoder.finish()
            }
        }
    }
}

/// An answer as it was before somebody encoded it, of at most `limit` bytes. How it is encoded shows in
/// its first bytes, with which no JSON begins: what stands in between may decode a body and leave the
/// field, or take the field and leave the body.
pub(super) fn decode_answer(
    content_encoding: Option<&str>,
    body: Bytes,
    limit: usize,
) -> Result<Bytes, UndecodableAnswer> {
    if let Some(encoding) = Encoding::of_encoded(&body) {
        return encoding.decode(&body, limit);
    }
    let names =
        content_encoding.unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty());
    let is_known = |name: &str| {
        let known = Encoding::Zstd.names().iter().chain(Encoding::Gzip.names()).chain(&["identity"]);
        known.into_iter().any(|known| name.eq_ignore_ascii_case(known))
    };
    match names.into_iter().find(|name| !is_known(name)) {
        Some(unknown) if !body.is_empty() => {
            Err(UndecodableAnswer::Unknown(truncate_text(unknown.to_owned())))
        }
        _ => Ok(body),
    }
}

/// Without a weight it is. A weight that does not read speaks against it: a plain body is never wrong.
fn is_wanted(parameters: &str) -> bool {
    parameters
        .split(';')
        .filter_map(|parameter| parameter.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
        .all(|(_, weight)| weight.trim().parse::<f32>().is_ok_and(|weight| weight > 0.0 && weight <= 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Encoding::{Gzip, Zstd};
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
            // The names of old, and spaces where RFC 9110 has them.
            ("x-gzip", &[Gzip]),
            ("X-GZIP ; Q=0.001 ,\tbr", &[Gzip]),
            (",, zstd ;\t q=1.000 ,", &[Zstd]),
            ("zstd;window=23;q=0.2", &[Zstd]),
            // Whatever is not named is what `*` says.
            ("*", &[Zstd, Gzip]),
            ("*;q=0.1, zstd;q=0", &[Gzip]),
            ("gzip, *;q=0", &[Gzip]),
            ("*;q=0", &[]),
            // That plain bodies are not liked names nothing else.
            ("identity;q=0", &[]),
            ("identity;q=0, gzip", &[Gzip]),
            // A name for one of them is enough.
            ("x-gzip;q=0, gzip", &[Gzip]),
            ("zstd;q=0, zstd;q=0", &[]),
            // Weights that are none.
            ("gzip;q=", &[]),
            ("gzip;q=NaN, zstd;q=inf", &[]),
            ("gzip;q=-0, zstd;q=-1", &[]),
            ("gzip;q=1.5", &[]),
            ("gzip;q=one", &[]),
            // Names that are others.
            ("zstdx, gzi p, gzip2, deflate", &[]),
            ("g\u{17f}ip, \u{212a}", &[]),
        ] {
            assert_eq!(Encoding::accepted(header), expected, "{header:?}");
        }
    }

    proptest! {
        #[test]
        fn no_header_is_too_odd_to_read(
            header in prop_oneof![any::<String>(), "((zstd|x-gzip|gzip|\\*|identity)?[ ;,=q0-9.-]{0,6}){0,9}"],
        ) {
            let accepted = Encoding::accepted(&header);
            let lower = header.to_ascii_lowercase();
            for encoding in accepted {
                prop_assert!(lower.contains(encoding.name()) || lower.contains('*'), "{encoding:?} in {header:?}");
            }
        }

        #[test]
        fn what_is_encoded_decodes_to_the_same_and_always_in_the_same_way(
            body in prop_oneof![prop::collection::vec(any::<u8>(), 0..1000), "[a-f{}\":,]{0,1000}".prop_map(String::into_bytes)],
        ) {
            let zstd = Zstd.encode(&body)?;
            let mut plain = Vec::new();
            let gzip = Gzip.encode(&body)?;
            io::copy(&mut flate2::read::GzDecoder::new(gzip.as_slice()), &mut plain)?;
            prop_assert_eq!((&zstd::decode_all(zstd.as_slice())?, &plain), (&body, &body));
            for encoded in [&zstd, &gzip] {
                prop_assert_eq!(&decode_answer(None, Bytes::copy_from_slice(encoded), body.len()).unwrap(), &body);
                let cut = encoded.get(..encoded.len() - 1).unwrap();
                prop_assert!(decode_answer(None, Bytes::copy_from_slice(cut), body.len()).is_err());
            }
            prop_assert_eq!((Zstd.encode(&body)?, Gzip.encode(&body)?), (zstd, gzip));
        }

        #[test]
        fn no_answer_is_too_odd_to_decode(
            magic in prop::sample::select(vec![&b""[..], b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd"]),
            rest in prop::collection::vec(any::<u8>(), 0..300), field in prop::option::of(any::<String>()),
        ) {
            let body = [magic, rest.as_slice()].concat();
            if let Ok(plain) = decode_answer(field.as_deref(), body.into(), 1000) {
                prop_assert!(plain.len() <= 1000);
            }
        }
    }

    #[test]
    fn an_answer_is_decoded_whatever_its_header_says_and_only_to_the_limit() {
        let json = br#"{"results":[]}"#;
        let decoded = |field, body: &[u8], limit| {
            decode_answer(field, Bytes::copy_from_slice(body), limit).map_err(|error| error.to_string())
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
        assert_eq!(
            decoded(Some("br"), b"", 100).unwrap(),
            &b""[..],
            "a body that is not there has no encoding"
        );
        assert!(decoded(None, &gzip[..gzip.len() - 3], 100).unwrap_err().contains("encoded as gzip"));
    }

    #[test]
    fn auto_prefers_zstd_and_sends_plainly_until_the_server_speaks() {
        use config::Compression::Auto;
        assert_eq!(Encoding::choose(Auto, &[Gzip, Zstd]), Some(Zstd));
        assert_eq!(Encoding::choose(Auto, &[Gzip]), Some(Gzip));
        assert_eq!(Encoding::choose(Auto, &[]), None);
        assert_eq!(Encoding::choose(config::Compression::None, &[Zstd]), None);
        assert_eq!(Encoding::choose(config::Compression::Gzip, &[]), Some(Gzip));
    }
}
