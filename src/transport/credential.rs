//! The bearer token: from `server.token_file`, else from the systemd credential `fieldsync-token`.

use std::io;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

use crate::config;

const CREDENTIAL: &str = "fieldsync-token";

/// A bearer token. It is never shown, and its memory is wiped.
#[derive(Clone, Debug)]
pub struct Token(SecretString);

impl Token {
    /// For the request alone.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Token {}

/// The token file does not read.
#[derive(Debug, Error)]
#[error("cannot read the token from {}: {source}", path.display())]
pub struct CredentialError {
    path: PathBuf,
    source: io::Error,
}

/// The token, where one is configured. A credential of systemd may be missing, a named file may not.
pub fn read(config: &config::Server) -> Result<Option<Token>, CredentialError> {
    let from = |path: PathBuf| match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim()).filter(|token| !token.is_empty()).map(|token| Token(token.into()))),
        Err(source) => Err(CredentialError { path, source }),
    };
    if let Some(path) = &config.token_file {
        return from(path.clone());
    }
    let Some(dir) = std::env::var_os("CREDENTIALS_DIRECTORY") else {
        return Ok(None);
    };
    match from(PathBuf::from(dir).join(CREDENTIAL)) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other,
    }
}
