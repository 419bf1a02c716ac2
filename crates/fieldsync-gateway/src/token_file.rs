//! The token file: which bearer tokens are valid, and for which devices.
//!
//! A line is a token for any device, or `DEVICE TOKEN` for one device alone. A token may be written as
//! `sha256:HEX`, so that the file holds no secret. Only digests are kept, and every line is compared in
//! constant time: the duration of a request reveals neither a token nor its line.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use subtle::{Choice, ConstantTimeEq};

use super::digest::{Sha256Digest, sha256};
use crate::causes::with_causes;
use crate::model::DeviceId;

/// A larger file is rejected.
const TOKEN_FILE_BYTES_MAX: u64 = 16 << 20;
/// Each request is compared with all tokens.
const TOKENS_MAX: usize = 100_000;
const DIGEST_PREFIX: &[u8] = b"sha256:";
const COMMENT_START: u8 = b'#';

/// Why the token file cannot be used. The texts quote nothing of a line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenFileError {
    #[error("cannot read the token file {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the token file {} is larger than {TOKEN_FILE_BYTES_MAX} bytes, or has more than {TOKENS_MAX} tokens", path.display())]
    TooLarge { path: PathBuf },
    #[error("the token file {} is empty or holds no token", path.display())]
    Empty { path: PathBuf },
    #[error("the token file {}, line {line}: {reason}", path.display())]
    Line { path: PathBuf, line: usize, reason: &'static str },
}

/// The content of the token file when it was last read.
pub(crate) struct TokenFile {
    tokens: RwLock<TokenTable>,
}

impl TokenFile {
    pub(crate) fn open(path: &Path) -> Result<Self, TokenFileError> {
        Ok(Self { tokens: RwLock::new(TokenTable::read_file(path)?) })
    }

    /// Reads the file again, which may be another one. A file with a mistake changes nothing; returns whether the
    /// file could be used.
    pub(crate) fn reload(&self, path: &Path) -> bool {
        match TokenTable::read_file(path) {
            Ok(tokens) => {
                let count = tokens.0.len();
                *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = tokens;
                tracing::info!(tokens = count, "the tokens were read again");
                true
            }
            Err(error) => {
                let error = with_causes(&error);
                tracing::error!(error, "the token file cannot be used: the tokens stay as they were");
                false
            }
        }
    }

    /// How many tokens are valid.
    pub(crate) fn count(&self) -> usize {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner).0.len()
    }

    /// The devices that this token admits; `None` if it is not in the file.
    pub(crate) fn scope_of(&self, token: &[u8]) -> Option<TokenScope> {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner).scope_of(token)
    }
}

/// The entries of the file.
#[derive(Debug)]
struct TokenTable(Vec<TokenEntry>);

#[derive(Debug, PartialEq, Eq)]
struct TokenEntry {
    digest: Sha256Digest,
    /// `None`: any device.
    device: Option<DeviceId>,
}

/// The devices that a token admits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TokenScope {
    AnyDevice,
    /// These devices only.
    Devices(Vec<DeviceId>),
}

impl TokenScope {
    /// The devices of both.
    #[must_use]
    pub(crate) fn restrict_to(self, other: &Self) -> Self {
        match (self, other) {
            (one, Self::AnyDevice) => one,
            (Self::AnyDevice, other) => other.clone(),
            (Self::Devices(mut devices), other) => {
                devices.retain(|device| other.covers(*device));
                Self::Devices(devices)
            }
        }
    }

    pub(crate) fn covers(&self, device: DeviceId) -> bool {
        match self {
            Self::AnyDevice => true,
            Self::Devices(devices) => devices.contains(&device),
        }
    }
}

impl TokenTable {
    fn read_file(path: &Path) -> Result<Self, TokenFileError> {
        let read_error = |source| TokenFileError::Read { path: path.into(), source };
        let mut text = Vec::new();
        let file = File::open(path).map_err(read_error)?;
        file.take(TOKEN_FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(read_error)?;
        let lines = parse_entries(&text).map_err(|(line, reason)| TokenFileError::Line {
            path: path.into(),
            line,
            reason,
        })?;
        if text.len() as u64 > TOKEN_FILE_BYTES_MAX || lines.len() > TOKENS_MAX {
            return Err(TokenFileError::TooLarge { path: path.into() });
        }
        if lines.is_empty() {
            return Err(TokenFileError::Empty { path: path.into() });
        }
        Ok(Self(lines))
    }

    /// Compares all entries, so that the duration does not depend on the one that matches.
    fn scope_of(&self, token: &[u8]) -> Option<TokenScope> {
        let digest = sha256(token);
        let matches: Vec<Choice> = self.0.iter().map(|line| line.digest.ct_eq(&digest)).collect();
        let mut devices = Vec::new();
        for (line, _) in self.0.iter().zip(matches).filter(|(_, matches)| bool::from(*matches)) {
            match line.device {
                Some(device) => devices.push(device),
                None => return Some(TokenScope::AnyDevice),
            }
        }
        (!devices.is_empty()).then_some(TokenScope::Devices(devices))
    }
}

/// The entries of a token file, or the number of the invalid line and the reason.
fn parse_entries(text: &[u8]) -> Result<Vec<TokenEntry>, (usize, &'static str)> {
    let mut entries: Vec<TokenEntry> = Vec::new();
    let mut bare_id = None;
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let words: Vec<&[u8]> =
            line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).take(3).collect();
        let (device, token) = match words.as_slice() {
            [] => continue,
            [word, ..] if word.first() == Some(&COMMENT_START) => continue,
            [token] => (None, *token),
            [device, token] => (Some(*device), *token),
            _ => return Err((number, "a token, or a device id and a token, was expected")),
        };
        let device = match device.map(parse_device_id) {
            Some(None) => return Err((number, "the word before the token is not a device id (a UUID)")),
            device => device.flatten(),
        };
        if device.is_none() && parse_device_id(token).is_some() {
            bare_id = Some(number);
        }
        let digest = match token.strip_prefix(DIGEST_PREFIX) {
            Some(hex) => parse_digest(hex).ok_or((number, "sha256: needs 64 hexadecimal digits"))?,
            None => sha256(token),
        };
        entries.push(TokenEntry { digest, device });
    }
    // A token may be a UUID. In a file with lines for devices, it is rather a device id without its token, and
    // no secret.
    match bare_id {
        Some(number) if entries.iter().any(|line| line.device.is_some()) => {
            Err((number, "a device id must be followed by a token"))
        }
        _ => Ok(entries),
    }
}

fn parse_device_id(word: &[u8]) -> Option<DeviceId> {
    str::from_utf8(word).ok()?.parse().ok()
}

fn parse_digest(hex: &[u8]) -> Option<Sha256Digest> {
    let mut digest = Sha256Digest::default();
    if hex.len() != digest.len() * 2 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(hex.chunks(2)) {
        let pair =
            str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn table(text: &str) -> TokenTable {
        TokenTable(parse_entries(text.as_bytes()).unwrap())
    }

    #[test]
    fn a_token_admits_the_devices_that_its_lines_name() {
        let [one, other, third] = [(); 3].map(|()| DeviceId(Uuid::new_v4()));
        let tokens = table(&format!("# a\n{one} mine\r\n\n{other}  mine \nshared\n{one} shared\n"));
        assert_eq!(tokens.0.len(), 4);
        assert_eq!(tokens.scope_of(b"mine"), Some(TokenScope::Devices(vec![one, other])));
        assert_eq!(tokens.scope_of(b"shared"), Some(TokenScope::AnyDevice));
        assert_eq!(tokens.scope_of(b""), None);
        assert!(!tokens.scope_of(b"mine").unwrap().covers(third));
    }

    #[test]
    fn token_and_certificate_admit_the_devices_that_both_admit() {
        let [one, other] = [(); 2].map(|()| DeviceId(Uuid::new_v4()));
        let devices = |devices: &[DeviceId]| TokenScope::Devices(devices.to_vec());
        let any = TokenScope::AnyDevice;
        for (token, certificate, both) in [
            (any.clone(), any.clone(), any.clone()),
            (any.clone(), devices(&[one]), devices(&[one])),
            (devices(&[one]), any.clone(), devices(&[one])),
            (devices(&[one, other]), devices(&[other]), devices(&[other])),
            (devices(&[one]), devices(&[other]), devices(&[])),
        ] {
            assert_eq!(token.restrict_to(&certificate), both);
        }
    }

    #[test]
    fn a_device_without_a_token_is_a_mistake_and_a_token_may_be_a_uuid() {
        let id = Uuid::new_v4();
        assert_eq!(table(&id.to_string()).scope_of(id.to_string().as_bytes()), Some(TokenScope::AnyDevice));
        let beside = format!("{id}\n{id} mine\n");
        assert_eq!(parse_entries(beside.as_bytes()).unwrap_err().0, 1);
    }

    #[test]
    fn a_digest_stands_for_its_token() {
        // printf %s abc | sha256sum
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for digest in [digest.to_owned(), digest.to_uppercase()] {
            let tokens = table(&format!("sha256:{digest}"));
            assert_eq!(tokens.scope_of(b"abc"), Some(TokenScope::AnyDevice));
            assert_eq!(tokens.scope_of(format!("sha256:{digest}").as_bytes()), None);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(text in prop::collection::vec(any::<u8>(), 0..300)) {
            let _either = parse_entries(&text).is_ok();
        }
    }
}
