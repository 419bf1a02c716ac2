//! What proves who the device is, and whom it trusts: the bearer token from `server.token_file`, else
//! from the systemd credential `fieldsync-token`, the PEM files of TLS, and what the proxy asks for.
//!
//! The token is never shown. While a file is refused nothing is sent at all, not even without it:
//! what is sent in nobody's name, or in another's, is worse than what waits.

mod secret_file;
mod watch;

use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use secrecy::{ExposeSecret, SecretString};

use crate::config;
use crate::protocol::exchange::RequestResult;
use secret_file::Reason;
pub use secret_file::Refusal;
pub(super) use secret_file::{plain, secret};
pub use watch::Watch;

const CREDENTIAL: &str = "fieldsync-token";

/// A bearer token. It is never shown, and its memory is wiped.
#[derive(Clone, Debug)]
pub struct Token(SecretString);

impl Token {
    /// For the request alone.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// A server may repeat what it was sent: to whoever reads on, the token is hidden in all of its texts.
    pub(super) fn hide_in(&self, seen: &mut RequestResult) {
        seen.each_text(|text| {
            if text.contains(self.expose()) {
                *text = text.replace(self.expose(), "[token]");
            }
        });
    }

    /// One word that fits into a header. Whatever else the file holds is not shown either.
    pub fn read(path: &Path) -> Result<Self, Refusal> {
        let bytes = secret_file::secret(path)?;
        let word = bytes.trim_ascii();
        let fits = !word.is_empty() && word.iter().all(u8::is_ascii_graphic);
        let token = std::str::from_utf8(word).ok().filter(|_| fits);
        token.map(|token| Self(token.into())).ok_or_else(|| Refusal::new(path, Reason::NoToken))
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Token {}

/// Which files there are to read, and to watch.
struct Files<'a> {
    token: Option<PathBuf>,
    /// A credential of systemd may be missing, a named file may not.
    token_may_be_missing: bool,
    /// Others that nobody else may read.
    secrets: Vec<&'a Path>,
    certificates: Vec<&'a Path>,
}

impl<'a> Files<'a> {
    fn of(config: &'a config::Server) -> Self {
        let credential = || Some(PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(CREDENTIAL));
        Self {
            token: config.token_file.clone().or_else(credential),
            token_may_be_missing: config.token_file.is_none(),
            // All that are named: a proxy may be spoken to over TLS where the server is not.
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

/// The files as they are now. Equal as long as a new transport would be no other than the old one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    token: Result<Option<Token>, Refusal>,
    secrets: Result<Vec<Fingerprint>, Refusal>,
    certificates: Vec<Option<Fingerprint>>,
}

type Fingerprint = Vec<u8>;

impl Credentials {
    /// Reads what the configuration names.
    pub fn read(config: &config::Server) -> Self {
        let files = Files::of(config);
        let there = |path: &&PathBuf| !files.token_may_be_missing || path.exists();
        let token = files.token.as_ref().filter(there).map(|path| Token::read(path));
        let secret = |path: &&Path| Ok(fingerprint(&secret_file::secret(path)?));
        let certificate = |path: &&Path| Some(fingerprint(&secret_file::plain(path).ok()?));
        Self {
            token: token.transpose(),
            secrets: files.secrets.iter().map(secret).collect(),
            certificates: files.certificates.iter().map(certificate).collect(),
        }
    }

    /// The token, where one is configured, unless a file is refused.
    pub fn token(&self) -> Result<Option<Token>, Refusal> {
        self.secrets.clone()?;
        self.token.clone()
    }
}

/// The file that the token is read from, where there is one.
pub(crate) fn token_file(config: &config::Server) -> Option<PathBuf> {
    let files = Files::of(config);
    files.token.filter(|path| !files.token_may_be_missing || path.exists())
}

/// Of a token that is shown to everyone on the way to the server.
pub(crate) const TOKEN_IN_CLEAR: &str = "server.url begins with http://: the token and all records are sent unencrypted, and everyone on the way to the server can \
     read them and use the token. Use https:// where the server has it";

/// What a person should know of a token that is sent unencrypted; none where it is not, or stays on this device.
pub(crate) fn warn_of_clear_token(config: &config::Server) -> Option<&'static str> {
    (config.is_unencrypted() && token_file(config).is_some()).then_some(TOKEN_IN_CLEAR)
}

fn fingerprint(bytes: &[u8]) -> Fingerprint {
    digest(&SHA256, bytes).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchId, RecordId};
    use crate::protocol::exchange::{Delivery, RequestFailure, Response, ResponseBody};
    use crate::protocol::wire::{BatchAnswer, ErrorDetail, RecordResult, RecordStatus};

    fn refusal(content: &[u8]) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        secret_file::tests::place(&path, content, 0o600);
        Token::read(&path).unwrap_err().to_string()
    }

    #[test]
    fn a_token_is_one_word_and_what_is_none_is_not_shown() {
        for content in
            [&b""[..], b" \n", b"se\nsame", b"se same", b"sesame\0", b"s\xc3\xa9same", b"\xffsesame"]
        {
            let told = refusal(content);
            assert!(told.contains("does not hold a token") && !told.contains("same"), "{told}");
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        secret_file::tests::place(&path, b" \tsesame-open==\r\n", 0o600);
        let token = Token::read(&path).unwrap();
        assert_eq!(token.expose(), "sesame-open==");
        assert!(!format!("{token:?}").contains("sesame"), "{token:?}");
    }

    #[test]
    fn a_token_that_is_repeated_is_hidden_wherever_an_answer_has_a_text() {
        let token = Token("sesame".into());
        let text = |text: &str| Some(text.to_owned());
        let result = RecordResult {
            id: RecordId::new(),
            status: RecordStatus::Rejected,
            code: text("NOT_sesame"),
            message: text("sesame, sesame"),
        };
        let detail = ErrorDetail { code: "sesame".into(), message: "Bearer sesame".into(), position: None };
        let answer = |body| RequestResult::Response(Response { status: 401, retry_after: None, body });
        let lost = RequestFailure { delivery: Delivery::Sent, message: "what is sesame?".into() };
        for (mut seen, hidden) in [
            (
                answer(ResponseBody::Batch(BatchAnswer {
                    batch_id: BatchId::new(),
                    replayed: false,
                    results: vec![result],
                })),
                3,
            ),
            (answer(ResponseBody::Error(detail)), 2),
            (RequestResult::Failure(lost), 1),
        ] {
            token.hide_in(&mut seen);
            let shown = format!("{seen:?}");
            assert!(!shown.contains("sesame") && shown.matches("[token]").count() == hidden, "{shown}");
        }
    }

    #[test]
    fn what_would_make_another_transport_is_not_equal() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| Some(directory.path().join(name));
        let place = |name: &str, content: &str| {
            secret_file::tests::place(&directory.path().join(name), content.as_bytes(), 0o600);
        };
        let config = config::Server {
            url: "https://crm.example".into(),
            token_file: path("token"),
            ca_file: path("ca"),
            client_cert_file: path("cert"),
            client_key_file: path("key"),
            ..config::Server::default()
        };
        let mut before = Credentials::read(&config);
        for name in ["token", "key", "ca", "cert", "token"] {
            place(name, &format!("{name} and {before:?}").replace(char::is_whitespace, ""));
            let now = Credentials::read(&config);
            assert!(now != before && now == Credentials::read(&config), "{name}");
            before = now;
        }
        assert!(before.token().unwrap().is_some());
        std::fs::remove_file(config.client_key_file.as_ref().unwrap()).unwrap();
        assert!(Credentials::read(&config).token().is_err(), "nothing is sent without the key");
        for url in ["HTTPS://crm.example", "http://crm.example"] {
            let other = config::Server { url: url.into(), ..config.clone() };
            assert!(Credentials::read(&other).token().is_err(), "{url}");
        }
    }
}
