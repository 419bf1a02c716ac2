//! The token file: who may speak to the gateway, and in the name of which device.
//!
//! A line is a token that any device may show, or `DEVICE TOKEN` for one device alone. A token may stand there as
//! `sha256:HEX`, so that the file holds no secret. Only digests are kept, and every line is compared in constant time:
//! how long a request takes tells neither a token nor the line that it is on.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use subtle::{Choice, ConstantTimeEq};

use super::ledger::{Digest, sha256};
use crate::causes::with_causes;
use crate::model::DeviceId;

/// A larger file is not read.
const TOKEN_FILE_BYTES_MAX: u64 = 16 << 20;
/// Every request is compared with all of them.
const TOKENS_MAX: usize = 100_000;
const DIGEST_PREFIX: &[u8] = b"sha256:";
const COMMENT: u8 = b'#';

/// Why the token file cannot be used. Nothing of a line is told.
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

/// The file, and what it said when it was read last.
pub(crate) struct TokenFile {
    path: PathBuf,
    tokens: RwLock<Tokens>,
}

impl TokenFile {
    pub(crate) fn open(path: &Path) -> Result<Self, TokenFileError> {
        Ok(Self { path: path.into(), tokens: RwLock::new(Tokens::read(path)?) })
    }

    /// Reads the file again. One with a mistake changes nothing.
    pub(crate) fn reload(&self) {
        match Tokens::read(&self.path) {
            Ok(tokens) => {
                let count = tokens.0.len();
                *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = tokens;
                tracing::info!(tokens = count, "the tokens were read again");
            }
            Err(error) => {
                let error = with_causes(&error);
                tracing::error!(error, "the tokens stay as they were: the token file cannot be used");
            }
        }
    }

    /// Whom this token lets in; none when it is not in the file.
    pub(crate) fn scope_of(&self, token: &[u8]) -> Option<Scope> {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner).scope_of(token)
    }
}

/// The lines of the file.
#[derive(Debug)]
pub(crate) struct Tokens(Vec<Line>);

#[derive(Debug, PartialEq, Eq)]
struct Line {
    digest: Digest,
    /// None: any device.
    device: Option<DeviceId>,
}

/// Whom a token lets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    AnyDevice,
    /// These alone.
    Devices(Vec<DeviceId>),
}

impl Scope {
    pub(crate) fn covers(&self, device: DeviceId) -> bool {
        match self {
            Self::AnyDevice => true,
            Self::Devices(devices) => devices.contains(&device),
        }
    }
}

impl Tokens {
    fn read(path: &Path) -> Result<Self, TokenFileError> {
        let failed = |source| TokenFileError::Read { path: path.into(), source };
        let mut text = Vec::new();
        let file = File::open(path).map_err(failed)?;
        file.take(TOKEN_FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(failed)?;
        let lines = parse(&text).map_err(|(line, reason)| TokenFileError::Line {
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

    /// All lines are compared, whichever has the token.
    fn scope_of(&self, token: &[u8]) -> Option<Scope> {
        let digest = sha256(token);
        let matches: Vec<Choice> = self.0.iter().map(|line| line.digest.ct_eq(&digest)).collect();
        let mut devices = Vec::new();
        for (line, _) in self.0.iter().zip(matches).filter(|(_, matches)| bool::from(*matches)) {
            match line.device {
                Some(device) => devices.push(device),
                None => return Some(Scope::AnyDevice),
            }
        }
        (!devices.is_empty()).then_some(Scope::Devices(devices))
    }
}

/// The tokens of a text; else the number of the line that is wrong, and why.
fn parse(text: &[u8]) -> Result<Vec<Line>, (usize, &'static str)> {
    let mut tokens: Vec<Line> = Vec::new();
    let mut bare_id = None;
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let words: Vec<&[u8]> =
            line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).take(3).collect();
        let (device, token) = match words.as_slice() {
            [] => continue,
            [word, ..] if word.first() == Some(&COMMENT) => continue,
            [token] => (None, *token),
            [device, token] => (Some(*device), *token),
            _ => return Err((number, "a token, or a device's id and a token, was expected")),
        };
        let device = match device.map(parse_device) {
            Some(None) => return Err((number, "what stands before the token is not a device's id (a UUID)")),
            device => device.flatten(),
        };
        if device.is_none() && parse_device(token).is_some() {
            bare_id = Some(number);
        }
        let digest = match token.strip_prefix(DIGEST_PREFIX) {
            Some(hex) => parse_digest(hex).ok_or((number, "sha256: needs 64 hexadecimal digits"))?,
            None => sha256(token),
        };
        tokens.push(Line { digest, device });
    }
    // A token may be a UUID. Beside lines of devices it is a device's id whose token is missing, and no secret.
    match bare_id {
        Some(number) if tokens.iter().any(|line| line.device.is_some()) => {
            Err((number, "a device's id has no token behind it"))
        }
        _ => Ok(tokens),
    }
}

fn parse_device(word: &[u8]) -> Option<DeviceId> {
    str::from_utf8(word).ok()?.parse().ok()
}

fn parse_digest(hex: &[u8]) -> Option<Digest> {
    let mut digest = Digest::default();
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

    fn tokens(text: &str) -> Tokens {
        Tokens(parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn a_token_lets_in_whom_its_lines_say() {
        let [one, other, third] = [(); 3].map(|()| DeviceId(Uuid::new_v4()));
        let tokens = tokens(&format!("# a\n{one} mine\r\n\n{other}  mine \nshared\n{one} shared\n"));
        assert_eq!(tokens.0.len(), 4);
        assert_eq!(tokens.scope_of(b"mine"), Some(Scope::Devices(vec![one, other])));
        assert_eq!(tokens.scope_of(b"shared"), Some(Scope::AnyDevice));
        assert_eq!(tokens.scope_of(b""), None);
        assert!(!tokens.scope_of(b"mine").unwrap().covers(third));
    }

    #[test]
    fn a_device_without_a_token_is_a_mistake_and_a_token_may_be_a_uuid() {
        let id = Uuid::new_v4();
        assert_eq!(tokens(&id.to_string()).scope_of(id.to_string().as_bytes()), Some(Scope::AnyDevice));
        let beside = format!("{id}\n{id} mine\n");
        assert_eq!(parse(beside.as_bytes()).unwrap_err().0, 1);
    }

    #[test]
    fn a_digest_stands_for_its_token() {
        // printf %s abc | sha256sum
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for digest in [digest.to_owned(), digest.to_uppercase()] {
            let tokens = tokens(&format!("sha256:{digest}"));
            assert_eq!(tokens.scope_of(b"abc"), Some(Scope::AnyDevice));
            assert_eq!(tokens.scope_of(format!("sha256:{digest}").as_bytes()), None);
        }
    }

    proptest! {
        #[test]
        fn nonsense_never_panics(text in prop::collection::vec(any::<u8>(), 0..300)) {
            let _either = parse(&text).is_ok();
        }
    }
}
