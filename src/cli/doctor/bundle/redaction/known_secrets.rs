//! Looks up the secrets of this device, as far as this user may read them, to find them in texts.
//!
//! They come from files that the configuration names, from the configuration itself, where they should not be, and from
//! the directories of systemd's credentials.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::field_names::{is_command_setting, is_secret_setting};
use super::key_search::{KeySearch, ProgramWords};
use crate::config_file::ConfigLocation;

/// No secret is larger.
const SECRET_FILE_BYTES_MAX: u64 = 64 << 10;
const CREDENTIAL_FILES_MAX: usize = 100;
const SERVICE_CREDENTIALS_DIR: &str = "/run/credentials/fieldsync.service";
/// They may hold credentials of other services, too.
const CREDENTIAL_STORES: [&str; 2] = ["/etc/credstore", "/run/credstore"];
const OWN_CREDENTIALS_PREFIX: &str = "fieldsync";
/// Certificates are not secret.
const PUBLIC_FILE_SETTINGS: [&str; 3] = ["ca_file", "client_cert_file", "cert_file"];
const FILE_SUFFIX: &str = "_file";
/// Shorter arguments of a command are options and common words.
const ARGUMENT_BYTES_MIN: usize = 8;
const BASIC_SCHEME: &str = "basic";
const VARIABLE_PREFIX: &str = "FIELDSYNC_";
const PROXY_VARIABLES: [&str; 6] =
    ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];

/// Shorter strings are not searched for: they stand in every text.
const STRING_BYTES_MIN: usize = 4;
/// These bound the memory of the search.
const SECRET_BYTES_MAX: usize = 256 << 10;
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// Strings that must not be in the bundle.
#[derive(Default)]
pub(crate) struct KnownStrings {
    secrets: BoundedStrings,
    /// Messages and codes of the server. Documents leave them out; other texts may quote them.
    messages: BoundedStrings,
    keys: BTreeSet<String>,
    words: ProgramWords,
}

/// Strings with their total size.
#[derive(Debug, Default)]
struct BoundedStrings {
    strings: BTreeSet<String>,
    bytes: usize,
}

impl BoundedStrings {
    fn add(&mut self, text: &str, bytes_max: usize) {
        for text in [text, text.trim(), &crate::hidden::replace_hidden(text)] {
            let is_new = text.len() >= STRING_BYTES_MIN && !self.strings.contains(text);
            if is_new && self.bytes + text.len() <= bytes_max {
                self.bytes += text.len();
                self.strings.insert(text.to_owned());
            }
        }
    }
}

impl KnownStrings {
    /// The secrets of the configuration at this place and of this process's environment.
    pub(crate) fn gather(config: Option<&Path>) -> Self {
        let mut known = Self::default();
        for file in ConfigLocation::new(config).read_some() {
            if let Ok(table) = file.text.parse::<toml::Table>() {
                known.add_settings(&table);
            }
        }
        for (name, value) in std::env::vars() {
            if let Some(setting) = name.strip_prefix(VARIABLE_PREFIX) {
                known.add_setting(&setting.to_ascii_lowercase(), &value);
            } else if PROXY_VARIABLES.contains(&name.as_str()) {
                known.add_userinfo(&value);
            }
        }
        known.add_directory(SERVICE_CREDENTIALS_DIR, "");
        for directory in CREDENTIAL_STORES {
            known.add_directory(directory, OWN_CREDENTIALS_PREFIX);
        }
        known
    }

    pub(crate) fn add_secret(&mut self, secret: &str) {
        self.secrets.add(secret, SECRET_BYTES_MAX);
    }

    /// A program with its arguments, as an array or, in an environment variable, as JSON.
    pub(crate) fn add_command(&mut self, command: &Value) {
        let parsed: Option<Value> = command.as_str().and_then(|text| serde_json::from_str(text).ok());
        let parts = parsed.as_ref().unwrap_or(command).as_array();
        for argument in parts.into_iter().flatten().skip(1).filter_map(Value::as_str) {
            let is_plain = argument.starts_with(['-', '/']) || argument.len() < ARGUMENT_BYTES_MIN;
            if !is_plain {
                self.add_lines(argument);
            }
            self.add_userinfo(argument);
        }
    }

    /// A message or code of the server, which may quote a record.
    pub(crate) fn add_message(&mut self, message: &str) {
        self.messages.add(message, MESSAGE_BYTES_MAX);
    }

    /// A key of a record.
    pub(crate) fn add_key(&mut self, key: &str) {
        self.keys.insert(key.to_owned());
    }

    /// A text of the program itself, such as the metrics with their descriptions: its words are no keys.
    pub(crate) fn add_program_text(&mut self, text: &str) {
        self.words.add_text(text);
    }

    pub(crate) fn add_field_names(&mut self, document: &Value) {
        self.words.add_field_names(document);
    }

    /// What is masked wherever it stands.
    pub(crate) fn masked_strings(&self) -> impl Iterator<Item = &String> {
        self.secrets.strings.iter().chain(&self.messages.strings)
    }

    pub(crate) fn search_keys(&self) -> KeySearch {
        KeySearch::new(self.keys.iter().map(String::as_str), &self.words)
    }

    fn add_settings(&mut self, table: &toml::Table) {
        for (name, value) in table {
            match value {
                command if is_command_setting(name) => {
                    self.add_command(&serde_json::to_value(command).unwrap_or_default());
                }
                toml::Value::String(text) => self.add_setting(name, text),
                toml::Value::Table(table) if is_secret_setting(name) => {
                    table.values().filter_map(toml::Value::as_str).for_each(|text| self.add_lines(text));
                }
                toml::Value::Table(table) => self.add_settings(table),
                toml::Value::Array(values) if is_secret_setting(name) => {
                    values.iter().filter_map(toml::Value::as_str).for_each(|text| self.add_lines(text));
                }
                _ => {}
            }
        }
    }

    fn add_setting(&mut self, name: &str, text: &str) {
        self.add_userinfo(text);
        if is_command_setting(name.rsplit("__").next().unwrap_or(name)) {
            self.add_command(&text.into());
        } else if name.ends_with(FILE_SUFFIX) {
            if text.starts_with('/') {
                let is_public = PUBLIC_FILE_SETTINGS.iter().any(|public| name.ends_with(public));
                if !is_public {
                    self.add_file(Path::new(text));
                }
            } else if !Path::new(text).exists() {
                // It is not the name of a file: the secret itself.
                self.add_lines(text);
            } else {
                self.add_file(Path::new(text));
            }
        } else if is_secret_setting(name) {
            self.add_lines(text);
        }
    }

    /// User and password of a URL.
    fn add_userinfo(&mut self, url: &str) {
        let Some((_, rest)) = url.split_once("://") else { return };
        let Some((userinfo, _)) = rest.rsplit_once('@') else { return };
        self.add_secret(userinfo);
        if let Some((_, password)) = userinfo.split_once(':') {
            self.add_secret(password);
        }
    }

    fn add_directory(&mut self, directory: &str, prefix: &str) {
        let files = fs::read_dir(directory).into_iter().flatten().flatten();
        let own = files.filter(|file| file.file_name().to_string_lossy().starts_with(prefix));
        own.take(CREDENTIAL_FILES_MAX).for_each(|file| self.add_file(&file.path()));
    }

    fn add_file(&mut self, path: &Path) {
        let read = || -> Option<String> {
            if !fs::metadata(path).ok()?.is_file() {
                return None;
            }
            let mut text = String::new();
            File::open(path).ok()?.take(SECRET_FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
            Some(text)
        };
        if let Some(text) = read() {
            self.add_lines(&text);
        }
    }

    /// Each line; of `name: value` and `user:password`, also the value.
    fn add_lines(&mut self, text: &str) {
        for line in text.lines().filter(|line| !line.starts_with("-----")) {
            self.add_secret(line);
            if let Some((_, value)) = line.split_once([':', '=']) {
                self.add_secret(value);
                self.add_authorization(value.trim());
            }
        }
    }

    /// Of `Bearer token`, the token; of `Basic …`, also user and password.
    fn add_authorization(&mut self, value: &str) {
        let Some((scheme, credential)) = value.split_once(' ') else { return };
        self.add_secret(credential);
        if scheme.eq_ignore_ascii_case(BASIC_SCHEME)
            && let Ok(decoded) = STANDARD.decode(credential.trim())
            && let Ok(decoded) = String::from_utf8(decoded)
        {
            self.add_secret(&decoded);
            if let Some((_, password)) = decoded.split_once(':') {
                self.add_secret(password);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_in_files_settings_headers_and_urls() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.toml");
        let place = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let token = place("token", "tok-sesame\n");
        let proxy = place("proxy", "user:pw-sesame\n");
        let ca = place("ca", "public-authority\n");
        let basic = STANDARD.encode("joe:basic-sesame");
        let headers = format!("authorization: Bearer otlp-sesame\nx-other: Basic {basic}\n");
        let headers = place("headers", &headers);
        let text = format!(
            "[server]\nurl = \"https://me:url-sesame@host\"\ntoken_file = \"{token}\"\nproxy_credential_file = \"{proxy}\"\n\
             ca_file = \"{ca}\"\nclient_key_file = \"inline-sesame\"\n[telemetry]\notlp_headers_file = \"{headers}\"\n\
             alert_command = [\"/usr/bin/curl\", \"-u\", \"joe:command-sesame\", \"POST\"]\n\
             [telemetry.otlp_headers]\nx = \"header-sesame\"\n"
        );
        fs::write(&config, text).unwrap();
        let known = KnownStrings::gather(Some(&config));
        let known: Vec<&String> = known.masked_strings().collect();
        for secret in [
            "tok-sesame",
            "pw-sesame",
            "me:url-sesame",
            "url-sesame",
            "inline-sesame",
            "header-sesame",
            "otlp-sesame",
            "basic-sesame",
            "command-sesame",
        ] {
            assert!(known.iter().any(|known| *known == secret), "{secret}: {known:?}");
        }
        assert!(!known.iter().any(|known| ["public-authority", "POST"].contains(&known.as_str())));
    }

    #[test]
    fn the_number_of_messages_is_limited_by_their_size() {
        let mut known = KnownStrings::default();
        let length = 200;
        for number in 0..5000 {
            known.add_message(&format!("{number:length$}"));
        }
        known.add_secret("sesame");
        assert!(known.masked_strings().map(String::len).sum::<usize>() <= MESSAGE_BYTES_MAX + 6);
        assert!(known.masked_strings().any(|known| known == "sesame"));
    }
}
