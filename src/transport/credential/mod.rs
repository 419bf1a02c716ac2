//! Credentials of the device: the bearer token from `server.token_file`, or else from the systemd credential
//! `fieldsync-token`; the PEM files of TLS; and the credential for the proxy.
//!
//! The token is never shown. While one of the files cannot be used, nothing is sent at all: records that wait are
//! better than records sent without the right identity.

mod collector_headers;
pub(crate) mod expiry;
mod secret_file;
mod watch;

use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use secrecy::{ExposeSecret, SecretString};

use crate::config;
use crate::protocol::exchange::RequestResult;
pub use collector_headers::{CollectorHeaders, warn_of_clear_headers};
use secret_file::FileProblem;
pub use secret_file::SecretFileError;
pub(super) use secret_file::{read_public_file, read_secret_file, show_secret_path};
pub use watch::CredentialWatch;

const SYSTEMD_CREDENTIAL: &str = "fieldsync-token";

/// A bearer token. It is never shown, and its memory is wiped.
#[derive(Clone, Debug)]
pub struct Token(SecretString);

impl Token {
    /// The text of the token, for a request only.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// A server may repeat the token: replaces it in all texts of a result, and drops receipts with it.
    pub(super) fn hide_in(&self, seen: &mut RequestResult) {
        seen.retain_receipts(|receipt| !receipt.mentions(self.expose()));
        seen.each_text(|text| {
            if text.contains(self.expose()) {
                *text = text.replace(self.expose(), "[token]");
            }
        });
    }

    /// Reads a token: one word that fits into a header. An error shows nothing of the file either.
    pub fn read_from(path: &Path) -> Result<Self, SecretFileError> {
        let bytes = read_secret_file(path)?;
        let word = bytes.trim_ascii();
        let fits = !word.is_empty() && word.iter().all(u8::is_ascii_graphic);
        let token = std::str::from_utf8(word).ok().filter(|_| fits);
        token.map(|token| Self(token.into())).ok_or_else(|| SecretFileError::new(path, FileProblem::NoToken))
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Token {}

/// The files to read and to watch.
struct CredentialFiles<'a> {
    token: Option<PathBuf>,
    /// A systemd credential may be missing, a configured file may not.
    token_may_be_missing: bool,
    /// Further files that other users may not read.
    secrets: Vec<&'a Path>,
    certificates: Vec<&'a Path>,
}

impl<'a> CredentialFiles<'a> {
    fn configured_by(config: &'a config::Server) -> Self {
        let credential =
            || Some(PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(SYSTEMD_CREDENTIAL));
        Self {
            token: config.token_file.clone().or_else(credential),
            token_may_be_missing: config.token_file.is_none(),
            // All configured files: the proxy may use TLS even if the server does not.
            secrets: [&config.client_key_file, &config.proxy_credential_file]
                .into_iter()
                .filter_map(Option::as_deref)
                .collect(),
            certificates: [&config.ca_file, &config.client_cert_file]
                .into_iter()
                .filter_map(Option::as_deref)
                .collect(),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Path> {
        let others = self.secrets.iter().chain(&self.certificates).copied();
        self.token.as_deref().into_iter().chain(others)
    }
}

/// The present content of the files. Equal as long as a new transport would be the same as the old one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    token: Result<Option<Token>, SecretFileError>,
    secrets: Result<Vec<Fingerprint>, SecretFileError>,
    certificates: Vec<Option<Fingerprint>>,
}

type Fingerprint = Vec<u8>;

impl Credentials {
    /// Reads the files that the configuration names.
    pub fn read_configured(config: &config::Server) -> Self {
        let files = CredentialFiles::configured_by(config);
        let is_expected = |path: &&PathBuf| !files.token_may_be_missing || path.exists();
        let token = files.token.as_ref().filter(is_expected).map(|path| Token::read_from(path));
        let secret = |path: &&Path| Ok(hash_content(&read_secret_file(path)?));
        let certificate = |path: &&Path| Some(hash_content(&read_public_file(path).ok()?));
        Self {
            token: token.transpose(),
            secrets: files.secrets.iter().map(secret).collect(),
            certificates: files.certificates.iter().map(certificate).collect(),
        }
    }

    /// The token, if one is configured, unless one of the files cannot be used.
    pub fn token(&self) -> Result<Option<Token>, SecretFileError> {
        self.secrets.clone()?;
        self.token.clone()
    }
}

/// The path that the token is read from, if there is one.
pub(crate) fn token_path(config: &config::Server) -> Option<PathBuf> {
    let files = CredentialFiles::configured_by(config);
    files.token.filter(|path| !files.token_may_be_missing || path.exists())
}

/// For people whose token is sent unencrypted.
pub(crate) const CLEAR_TOKEN_WARNING: &str = "server.url begins with http://: the token and all records are sent unencrypted, and everyone on the way to the server can \
     read them and use the token. Use https:// where the server has it";

/// A warning if the token is sent unencrypted to another host.
pub(crate) fn warn_of_clear_token(config: &config::Server) -> Option<&'static str> {
    (config.is_unencrypted() && token_path(config).is_some()).then_some(CLEAR_TOKEN_WARNING)
}

fn hash_content(bytes: &[u8]) -> Fingerprint {
    digest(&SHA256, bytes).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchId, RecordId};
    use crate::protocol::exchange::{Delivery, RequestFailure, Response, ResponseBody};
    use crate::protocol::receipt::Receipt;
    use crate::protocol::wire::{BatchResponse, ErrorDetail, RecordResult, RecordStatus};

    fn error_for(content: &[u8]) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        secret_file::tests::write_file(&path, content, 0o600);
        Token::read_from(&path).unwrap_err().to_string()
    }

    #[test]
    fn a_token_is_one_word_and_invalid_content_is_not_shown() {
        for content in
            [&b""[..], b" \n", b"se\nsame", b"se same", b"sesame\0", b"s\xc3\xa9same", b"\xffsesame"]
        {
            let error = error_for(content);
            assert!(error.contains("does not hold a token") && !error.contains("same"), "{error}");
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        secret_file::tests::write_file(&path, b" \tsesame-open==\r\n", 0o600);
        let token = Token::read_from(&path).unwrap();
        assert_eq!(token.expose(), "sesame-open==");
        assert!(!format!("{token:?}").contains("sesame"), "{token:?}");
    }

    #[test]
    fn a_repeated_token_is_hidden_in_every_text_of_a_response() {
        let token = Token("sesame".into());
        let text = |text: &str| Some(text.to_owned());
        let result = RecordResult {
            code: text("NOT_sesame"),
            message: text("sesame, sesame"),
            field: text("/sesame"),
            receipt: Receipt::parse(r#"{"token": "sesame"}"#),
            ..RecordResult::new(RecordId::new(), RecordStatus::Rejected)
        };
        let detail = ErrorDetail { code: "sesame".into(), message: "Bearer sesame".into(), position: None };
        let unauthorized = |body| RequestResult::Response(Response { status: 401, retry_after: None, body });
        let lost = RequestFailure::new(Delivery::Sent, "what is sesame?");
        for (mut seen, hidden) in [
            (
                unauthorized(ResponseBody::Batch(BatchResponse {
                    batch_id: BatchId::new(),
                    replayed: false,
                    results: vec![result],
                })),
                4,
            ),
            (unauthorized(ResponseBody::Error(detail)), 2),
            (RequestResult::Failure(lost), 1),
        ] {
            token.hide_in(&mut seen);
            let shown = format!("{seen:?}");
            assert!(!shown.contains("sesame") && shown.matches("[token]").count() == hidden, "{shown}");
        }
    }

    #[test]
    fn credentials_differ_when_a_new_transport_would() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| Some(directory.path().join(name));
        let write_file = |name: &str, content: &str| {
            secret_file::tests::write_file(&directory.path().join(name), content.as_bytes(), 0o600);
        };
        let config = config::Server {
            url: "https://crm.example".into(),
            token_file: path("token"),
            ca_file: path("ca"),
            client_cert_file: path("cert"),
            client_key_file: path("key"),
            ..config::Server::default()
        };
        let mut before = Credentials::read_configured(&config);
        for name in ["token", "key", "ca", "cert", "token"] {
            write_file(name, &format!("{name} and {before:?}").replace(char::is_whitespace, ""));
            let now = Credentials::read_configured(&config);
            assert!(now != before && now == Credentials::read_configured(&config), "{name}");
            before = now;
        }
        assert!(before.token().unwrap().is_some());
        std::fs::remove_file(config.client_key_file.as_ref().unwrap()).unwrap();
        assert!(Credentials::read_configured(&config).token().is_err(), "nothing is sent without the key");
        for url in ["HTTPS://crm.example", "http://crm.example"] {
            let other = config::Server { url: url.into(), ..config.clone() };
            assert!(Credentials::read_configured(&other).token().is_err(), "{url}");
        }
    }
}
