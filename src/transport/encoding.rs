//! Encodings of bodies (RFC 9110 §8.4).

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::config;

/// The level of zstd that its authors recommend for use in passing.
const ZSTD_LEVEL: i32 = 3;

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

    /// The encodings that an `Accept-Encoding` names with a weight above 0.
    pub fn accepted(header: &str) -> Vec<Self> {
        let named = |name: &str| {
            header.split(',').any(|item| {
                let mut parts = item.split(';').map(str::trim);
                let is_named = parts.next().is_some_and(|coding| coding.eq_ignore_ascii_case(name));
                let refused = parts.any(|weight| {
                    let value = weight.strip_prefix("q=").and_then(|value| value.parse::<f32>().ok());
                    value.is_some_and(|value| value <= 0.0)
                });
                is_named && !refused
            })
        };
        [Self::Zstd, Self::Gzip].into_iter().filter(|encoding| named(encoding.name())).collect()
    }

    /// The body, encoded.
    pub fn encode(self, body: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Zstd => zstd::encode_all(body, ZSTD_LEVEL),
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(body)?;
                encoder.finish()
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
        ] {
            assert_eq!(Encoding::accepted(header), expected, "{header:?}");
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
