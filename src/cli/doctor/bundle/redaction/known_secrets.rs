//! Looks up the secrets of this device, as far as this user may read them, to find them in texts.
//!
//! They come from files that the configuration names, from the configuration itself, where they should not be, and from
//! the directories of systemd's credentials.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use super::document::is_secret_setting;
use crate::config::MASK;
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
const VARIABLE_PREFIX: &str = "FIELDSYNC_";
const PROXY_VARIABLES: [&str; 6] =
    ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];

/// Strings that must not be in the bundle, each with its replacement.
#[derive(Default)]
pub(crate) struct KnownStrings(BTreeMap<String, String>);

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
        for secret in [secret, secret.trim(), &crate::hidden::replace_hidden(secret)] {
            self.0.insert(secret.to_owned(), MASK.to_owned());
        }
    }

    /// A key of a record, which is replaced by its hash. What is a secret, too, stays one.
    pub(crate) fn add_key(&mut self, key: &str, hash: String) {
        self.0.entry(key.to_owned()).or_insert(hash);
    }

    pub(crate) fn into_map(self) -> BTreeMap<String, String> {
        self.0
    }

    fn add_settings(&mut self, table: &toml::Table) {
        for (name, value) in table {
            match value {
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
        if name.ends_with(FILE_SUFFIX) {
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
        self.add_secret(text);
        for line in text.lines().filter(|line| !line.starts_with("-----")) {
            self.add_secret(line);
            if let Some((_, value)) = line.split_once([':', '=']) {
                self.add_secret(value);
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
        let text = format!(
            "[server]\nurl = \"https://me:url-sesame@host\"\ntoken_file = \"{token}\"\nproxy_credential_file = \"{proxy}\"\n\
             ca_file = \"{ca}\"\nclient_key_file = \"inline-sesame\"\n[telemetry.otlp_headers]\nx = \"header-sesame\"\n"
        );
        fs::write(&config, text).unwrap();
        let known = KnownStrings::gather(Some(&config)).into_map();
        for secret in
            ["tok-sesame", "pw-sesame", "me:url-sesame", "url-sesame", "inline-sesame", "header-sesame"]
        {
            assert_eq!(known.get(secret).map(String::as_str), Some(MASK), "{secret}: {known:?}");
        }
        assert!(!known.contains_key("public-authority"));
    }
}
