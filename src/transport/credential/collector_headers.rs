//! Headers for the OTLP collector, from `telemetry.otlp_headers_file`, or else from the systemd credential
//! `fieldsync-otlp-headers`. Their values are secrets: they are never shown, and their memory is wiped.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};

use awc::http::header::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::secret_file::{FileProblem, SecretFileError, read_secret_file};
use crate::config;

const SYSTEMD_CREDENTIAL: &str = "fieldsync-otlp-headers";

/// A shorter part of a value is not a secret, and would be replaced within unrelated words and numbers.
const SECRET_BYTES_MIN: usize = 4;

/// Headers that belong to the request itself.
const RESERVED_NAMES: [&str; 7] = [
    "host",
    "connection",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "user-agent",
];

/// Headers for the collector.
#[derive(Clone, Debug, Default)]
pub struct CollectorHeaders(Vec<(HeaderName, SecretString)>);

impl CollectorHeaders {
    /// Reads the file that the configuration names, if there is one.
    pub fn read_configured(config: &config::Telemetry) -> Result<Self, SecretFileError> {
        match headers_path(config) {
            Some(path) => Self::read_from(&path),
            None => Ok(Self::default()),
        }
    }

    fn read_from(path: &Path) -> Result<Self, SecretFileError> {
        let bytes = read_secret_file(path)?;
        let mut headers = Vec::new();
        for (line, bytes) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let bytes = bytes.trim_ascii();
            if bytes.is_empty() || bytes.starts_with(b"#") {
                continue;
            }
            let header = parse_header(bytes);
            headers.push(header.ok_or_else(|| SecretFileError::new(path, FileProblem::NoHeader { line }))?);
        }
        Ok(Self(headers))
    }

    /// Names and values, for a request only.
    pub(in crate::transport) fn expose(&self) -> impl Iterator<Item = (HeaderName, &str)> {
        self.0.iter().map(|(name, value)| (name.clone(), value.expose_secret()))
    }

    /// A collector may repeat a value: replaces each in a text. That of `Authorization` also without its scheme.
    pub(in crate::transport) fn hide_in(&self, text: &str) -> String {
        let values = self.0.iter().map(|(_, value)| value.expose_secret());
        let mut parts: Vec<&str> =
            values.flat_map(|value| [value].into_iter().chain(value.split_whitespace().last())).collect();
        parts.retain(|part| part.len() >= SECRET_BYTES_MIN);
        // A value that is a part of another must not uncover the rest of it.
        parts.sort_unstable_by_key(|part| Reverse(part.len()));
        parts.into_iter().fold(text.to_owned(), |text, secret| text.replace(secret, "[header]"))
    }
}

fn parse_header(line: &[u8]) -> Option<(HeaderName, SecretString)> {
    let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
    let name: HeaderName = name.trim().parse().ok()?;
    let value = value.trim();
    let is_visible = value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    let fits = !value.is_empty() && is_visible && HeaderValue::from_str(value).is_ok();
    (fits && !RESERVED_NAMES.contains(&name.as_str())).then(|| (name, value.into()))
}

/// The path that the headers are read from, if there is one. A systemd credential may be missing.
fn headers_path(config: &config::Telemetry) -> Option<PathBuf> {
    let credential = || {
        let path = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(SYSTEMD_CREDENTIAL);
        path.exists().then_some(path)
    };
    config.otlp_headers_file.clone().or_else(credential)
}

/// A warning if headers are sent unencrypted to another host.
pub fn warn_of_clear_headers(config: &config::Telemetry) -> Option<&'static str> {
    (config.is_unencrypted() && headers_path(config).is_some()).then_some(
        "telemetry.otlp_url begins with http://: the headers of telemetry.otlp_headers_file are sent unencrypted, and \
         everyone on the way to the collector can read and use them. Use https:// where the collector has it",
    )
}

#[cfg(test)]
mod tests {
    use super::super::secret_file::tests::write_file;
    use super::*;

    fn read(content: &[u8], mode: u32) -> Result<CollectorHeaders, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("headers");
        write_file(&path, content, mode);
        CollectorHeaders::read_from(&path).map_err(|error| error.describe("Nothing is pushed"))
    }

    #[test]
    fn each_line_is_a_header_and_no_value_is_shown() {
        let headers = read(
            b"# for the collector\nAuthorization: Bearer sesame\r\n\n X-Scope-OrgID :  fleet: 7 \n",
            0o600,
        )
        .unwrap();
        let exposed: Vec<_> =
            headers.expose().map(|(name, value)| (name.to_string(), value.to_owned())).collect();
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(exposed, [header("authorization", "Bearer sesame"), header("x-scope-orgid", "fleet: 7")]);
        assert!(!format!("{headers:?}").contains("sesame"));
        let hidden = headers.hide_in("got Bearer sesame, sesame for fleet: 7");
        assert_eq!(hidden, "got [header], [header] for [header]");
    }

    #[test]
    fn a_value_that_is_part_of_another_uncovers_nothing_of_it() {
        let (scope, token) = ("X-Scope-OrgID: fleet\n", "Authorization: Bearer fleet-s3cr3t-7f\n");
        for content in [format!("{scope}{token}"), format!("{token}{scope}")] {
            let headers = read(content.as_bytes(), 0o600).unwrap();
            let hidden = headers.hide_in("bad token Bearer fleet-s3cr3t-7f (fleet-s3cr3t-7f) of fleet");
            assert_eq!(hidden, "bad token [header] ([header]) of [header]");
        }
        let headers = read(b"X-Scope-OrgID: 0\nx-api-key: 4711", 0o600).unwrap();
        assert_eq!(headers.hide_in("100 items of 4711"), "100 items of [header]");
    }

    #[test]
    fn a_file_with_anything_else_is_refused_by_its_line() {
        for content in [
            &b"ok: 1\nsesame"[..],
            b"ok: 1\nna me: sesame",
            b"ok: 1\nname: s\xc3\xa9same",
            b"ok: 1\nname:",
            b"ok: 1\nContent-Type: sesame",
        ] {
            let error = read(content, 0o600).unwrap_err();
            assert!(error.contains("has no header in line 2") && !error.contains("same"), "{error}");
        }
        let error = read(b"ok: 1", 0o644).unwrap_err();
        assert!(error.contains("is open to others (mode 0644). Nothing is pushed."), "{error}");
        assert!(read(b"", 0o600).unwrap().expose().next().is_none());
    }
}
