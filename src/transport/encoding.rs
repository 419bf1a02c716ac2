//! Encodings of bodies (RFC 9110 §8.4): which one a server takes, and how a body gets it.
//!
//! What a server says is read in its favour only where it is clear; a plain body is never wrong.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::config;

/// The levels that lose least against the best on links from 64 kbit/s to 10 Mbit/s, on slow processors,
/// too: `benches/README.md` has the figures.
const ZSTD_LEVEL: i32 = 7;
const GZIP_LEVEL: u32 = 6;

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
            prop_assert_eq!((Zstd.encode(&body)?, Gzip.encode(&body)?), (zstd, gzip));
        }
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
