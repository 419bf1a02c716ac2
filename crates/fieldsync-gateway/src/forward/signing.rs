//! Signatures as Standard Webhooks 1.0 defines them: HMAC-SHA256 over id, time and body.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use ring::hmac::{self, HMAC_SHA256, Key};

const SECRET_PREFIX: &str = "whsec_";
const COMMENT_START: char = '#';
/// Shorter secrets are accepted with a warning; the specification asks for at least so many bytes.
const SECRET_BYTES_MIN: usize = 24;
/// Secrets may lack their padding.
const SECRET_ENCODING: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why the secret file cannot be used. The texts quote nothing of a line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretFileError {
    #[error("cannot read the secret file {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the secret file {} does not hold a secret", path.display())]
    Empty { path: PathBuf },
    #[error("the secret file {}, line {line}: a secret is whsec_ followed by base64", path.display())]
    Line { path: PathBuf, line: usize },
}

/// The secrets of a file, each of which signs.
pub(super) struct SigningSecrets(Vec<Key>);

impl SigningSecrets {
    pub(super) fn read_file(path: &Path) -> Result<Self, SecretFileError> {
        let text =
            fs::read_to_string(path).map_err(|source| SecretFileError::Read { path: path.into(), source })?;
        let secrets = Self::parse(&text).map_err(|line| SecretFileError::Line { path: path.into(), line })?;
        if secrets.0.is_empty() {
            return Err(SecretFileError::Empty { path: path.into() });
        }
        Ok(secrets)
    }

    /// The secrets, one on each line, or the number of the line with a mistake.
    fn parse(text: &str) -> Result<Self, usize> {
        let mut keys = Vec::new();
        for (number, line) in (1_usize..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with(COMMENT_START) {
                continue;
            }
            let secret = SECRET_ENCODING
                .decode(line.strip_prefix(SECRET_PREFIX).unwrap_or(line))
                .ok()
                .filter(|secret| !secret.is_empty())
                .ok_or(number)?;
            if secret.len() < SECRET_BYTES_MIN {
                tracing::warn!(
                    line = number,
                    "a secret for signing is shorter than {SECRET_BYTES_MIN} bytes: replace it by a longer one"
                );
            }
            keys.push(Key::new(HMAC_SHA256, &secret));
        }
        Ok(Self(keys))
    }

    /// The value of the header `webhook-signature`: one signature for each secret.
    pub(super) fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let mut signatures = String::new();
        for key in &self.0 {
            let mut context = hmac::Context::with_key(key);
            context.update(format!("{id}.{timestamp}.").as_bytes());
            context.update(body);
            let separator = if signatures.is_empty() { "" } else { " " };
            // Writing to memory does not fail.
            write!(signatures, "{separator}v1,{}", BASE64_STANDARD.encode(context.sign())).ok();
        }
        signatures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn sign(secrets: &str) -> String {
        let body = br#"{"test": 2432232314}"#;
        SigningSecrets::parse(secrets).unwrap_or(SigningSecrets(Vec::new())).sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            body,
        )
    }

    #[test]
    fn the_signature_is_that_of_the_reference_libraries() {
        assert_eq!(sign(SECRET), SIGNATURE);
        // The libraries take a secret without its prefix, too.
        assert_eq!(sign(SECRET.trim_start_matches("whsec_")), SIGNATURE);
    }

    #[test]
    fn each_secret_of_the_file_signs() {
        let signatures = sign(&format!("# new\nwhsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n\n {SECRET} \r\n"));
        let signatures: Vec<&str> = signatures.split(' ').collect();
        assert_eq!(signatures.len(), 2);
        assert_eq!(signatures[1], SIGNATURE);
    }

    #[test]
    fn a_line_that_is_not_a_secret_is_named_by_its_number() {
        for (text, line) in [("whsec_", 1), ("# a\nwhsec_a b", 2), ("whsec_QUJD\n%", 2)] {
            assert_eq!(SigningSecrets::parse(text).err(), Some(line), "{text}");
        }
    }
}
