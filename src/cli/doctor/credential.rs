//! Whether every file that proves who the device is, or whom it trusts, can be used by the daemon.
//!
//! It is the daemon's own reader that judges a secret; nothing of what a file holds is shown. What this
//! user may not read is said to be so, and is no problem: it may be none for the daemon.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::access::{User, user_name};
use super::finding::{Finding, Outcome, or_well};
use super::server::Tried;
use crate::cli::words::span;
use crate::clock::{millis, rfc3339, wall_ms};
use crate::config::{self, DEFAULT_FILE};
use crate::transport::credential::{CLEAR_TOKEN_WARNING, Credentials, Token};
use crate::transport::http::TransportError;

/// Where systemd puts what `LoadCredential=` of the service names.
const HANDED_OVER: &str = "/run/credentials/fieldsync.service";
const CREDENTIAL: &str = "fieldsync-token";
/// So long before a certificate ends somebody should know.
const SOON_MS: u64 = 30 * 24 * 3600 * 1000;
/// As for the daemon.
const PEM_LIMIT: u64 = 4 << 20;
const SUDO: &str = "sudo fieldsync doctor";

/// What the daemon would use, as far as this user can see it.
pub(super) struct Gathered {
    /// With the file that systemd hands over, where that is what the daemon uses.
    pub(super) server: config::Server,
    pub(super) token: Shown,
    files: Vec<Named>,
    /// Whether systemd hands over a token cannot be seen.
    hidden: bool,
    /// A token is handed to the service, and the service does not have this configuration.
    spared: bool,
}

/// The token, for a question to the server.
pub(super) enum Shown {
    /// None is configured, or this is it.
    As(Option<Token>),
    /// The daemon may have one; here it is not used.
    Withheld,
}

/// A file that a key names.
struct Named {
    key: &'static str,
    path: PathBuf,
    kind: Kind,
    read: io::Result<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Token,
    /// A token that systemd hands over: it sees to it that the daemon may read it.
    HandedOver,
    OtherSecret,
    Certificates,
}

/// `configuration` is the file that somebody named instead of the service's.
pub(super) fn gather(server: &config::Server, configuration: Option<&Path>) -> Gathered {
    match std::env::var_os("CREDENTIALS_DIRECTORY") {
        Some(directory) => gather_from(server, Path::new(&directory), true),
        None => gather_from(server, Path::new(HANDED_OVER), configuration.is_none_or(is_the_services)),
    }
}

fn is_the_services(configuration: &Path) -> bool {
    let same = |default: PathBuf| configuration.canonicalize().is_ok_and(|named| named == default);
    Path::new(DEFAULT_FILE).canonicalize().is_ok_and(same)
}

/// A token is shown to the server that it was made for, and to no other.
fn gather_from(server: &config::Server, handed_over: &Path, to_this_server: bool) -> Gathered {
    let mut server = server.clone();
    let (mut hidden, mut spared) = (false, false);
    let mut kind = Kind::Token;
    if server.token_file.is_none() {
        let file = handed_over.join(CREDENTIAL);
        match fs::metadata(&file) {
            Ok(_) if !to_this_server => spared = true,
            Ok(_) => (server.token_file, kind) = (Some(file), Kind::HandedOver),
            Err(error) => hidden = to_this_server && error.kind() == ErrorKind::PermissionDenied,
        }
    }
    let token = match Credentials::read_configured(&server).token() {
        Ok(token) if !hidden && !spared => Shown::As(token),
        _ => Shown::Withheld,
    };
    let files = named(&server, kind);
    Gathered { server, token, files, hidden, spared }
}

fn named(server: &config::Server, token: Kind) -> Vec<Named> {
    let token_key = match token {
        Kind::HandedOver => "the systemd credential fieldsync-token",
        _ => "server.token_file",
    };
    [
        (token_key, &server.token_file, token),
        ("server.client_key_file", &server.client_key_file, Kind::OtherSecret),
        ("server.proxy_credential_file", &server.proxy_credential_file, Kind::OtherSecret),
        ("server.client_cert_file", &server.client_cert_file, Kind::Certificates),
        ("server.ca_file", &server.ca_file, Kind::Certificates),
    ]
    .into_iter()
    .filter_map(|(key, path, kind)| {
        let path = path.clone()?;
        // Only files are opened: a pipe would hold everything up.
        let read = fs::metadata(&path).and_then(|file| {
            if file.is_file() { File::open(&path).map(drop) } else { Err(io::Error::other("it is no file")) }
        });
        Some(Named { key, path, kind, read })
    })
    .collect()
}

pub(super) fn check(gathered: &Gathered, tried: &Tried, daemon: Option<&User>) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        gathered.files.iter().flat_map(|file| of_file(file, daemon, wall_ms())).collect();
    if gathered.hidden {
        findings
            .push(Finding::unchecked("whether systemd hands a token over can be seen by root only", SUDO));
    }
    if gathered.spared {
        findings.push(Finding::unchecked(
            "the token that systemd hands to the service is not shown to the server of another configuration",
            "sudo fieldsync doctor, without --config, asks the server of the service",
        ));
    }
    if gathered.server.is_unencrypted() && gathered.server.token_file.is_some() {
        findings.push(Finding::warning(
            CLEAR_TOKEN_WARNING,
            "set server.url to https://, then: systemctl reload fieldsync",
        ));
    }
    // Said of the same files already, where one of them does not read.
    if let Tried::Unusable(TransportError::Tls(error)) = tried
        && findings.iter().all(|finding| finding.result != Outcome::Problem)
    {
        findings.push(Finding::problem(
            format!("the certificates cannot be used: {error}"),
            "put the certificate and the key that belong together into server.client_cert_file and \
             server.client_key_file, and authorities as PEM into server.ca_file",
        ));
    }
    or_well(findings, || match gathered.files.as_slice() {
        [] => "no credential is configured: the server is asked without one".to_owned(),
        files => {
            let keys: Vec<&str> = files.iter().map(|file| file.key).collect();
            format!("the daemon can use what is named by {}", keys.join(", "))
        }
    })
}

fn of_file(file: &Named, daemon: Option<&User>, now: u64) -> Vec<Finding> {
    let (key, path) = (file.key, file.path.display());
    match &file.read {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let owner = fs::metadata(&file.path).map_or_else(|_| "root".into(), |file| user_name(file.uid()));
            return vec![Finding::unchecked(format!("{path} ({key}) can be read by {owner} only"), SUDO)];
        }
        Err(error) => {
            return vec![Finding::problem(
                format!(
                    "{path} ({key}) cannot be read: {error}. Nothing is sent meanwhile, records are kept"
                ),
                place(file, daemon),
            )];
        }
        Ok(()) => {}
    }
    if file.kind != Kind::Certificates
        && let Some(refused) = refused(file)
    {
        return vec![refused];
    }
    if file.kind != Kind::HandedOver
        && let Some(daemon) = daemon
        && matches!(daemon.may_read(&file.path), Ok(false))
    {
        let user = &daemon.name;
        return vec![Finding::problem(
            format!(
                "{path} ({key}) cannot be read by {user}, as whom the daemon runs. Nothing is sent meanwhile"
            ),
            match file.kind {
                // No secret.
                Kind::Certificates => {
                    format!("sudo chmod a+r {path}, and let {user} enter every directory on the way there")
                }
                _ => format!(
                    "sudo chown {user}: {path}, and let {user} enter every directory on the way there"
                ),
            },
        )];
    }
    if file.kind == Kind::Certificates { dates(file, now) } else { Vec::new() }
}

fn place(file: &Named, daemon: Option<&User>) -> String {
    let path = file.path.display();
    let user = daemon.map_or("fieldsync", |user| &user.name);
    match file.kind {
        Kind::Token | Kind::HandedOver | Kind::OtherSecret => {
            format!("sudo install -m 0600 -o {user} FILE {path}")
        }
        Kind::Certificates => format!("sudo install -m 0644 FILE {path}"),
    }
}

/// As the daemon says it.
fn refused(file: &Named) -> Option<Finding> {
    let path = Some(file.path.clone());
    let alone = match file.kind {
        Kind::Token | Kind::HandedOver => config::Server { token_file: path, ..config::Server::default() },
        _ => config::Server { client_key_file: path, ..config::Server::default() },
    };
    let refusal = Credentials::read_configured(&alone).token().err()?.to_string();
    let (wrong, remedy) = refusal.split_once(" To mend it: ").unwrap_or((&refusal, "put another file there"));
    Some(Finding::problem(wrong, remedy))
}

/// Until when certificates hold.
fn dates(file: &Named, now: u64) -> Vec<Finding> {
    let (key, path) = (file.key, file.path.display());
    let mut bytes = Vec::new();
    let read = File::open(&file.path).and_then(|file| file.take(PEM_LIMIT).read_to_end(&mut bytes));
    let ends: Vec<(u64, u64)> = match read {
        Ok(_) => CertificateDer::pem_slice_iter(&bytes).flatten().filter_map(|der| validity(&der)).collect(),
        Err(_) => return Vec::new(),
    };
    // Of authorities one that holds is enough; of a chain, the first is the device's.
    let end = match file.kind {
        Kind::Certificates if key == "server.ca_file" => ends.into_iter().max_by_key(|(_, end)| *end),
        _ => ends.into_iter().next(),
    };
    let Some((begin, end)) = end else {
        return vec![Finding::problem(
            format!("{path} ({key}) holds no certificate that can be read"),
            format!("put certificates as PEM into {path}"),
        )];
    };
    let renew = format!("have the certificate renewed and put it into {path}; it is used at once");
    if end <= now {
        return vec![Finding::problem(
            format!(
                "the certificate in {path} ({key}) ended on {}, by the clock of this device",
                rfc3339(end)
            ),
            renew,
        )];
    }
    if begin > now {
        return vec![Finding::problem(
            format!(
                "the certificate in {path} ({key}) holds from {} on: the clock of this device is behind",
                rfc3339(begin)
            ),
            "set the clock: sudo timedatectl set-ntp true",
        )];
    }
    if end - now < SOON_MS {
        return vec![Finding::warning(
            format!("the certificate in {path} ({key}) ends in {}", span(end - now)),
            renew,
        )];
    }
    Vec::new()
}

/// From when to when a certificate holds, in milliseconds since 1970.
fn validity(der: &[u8]) -> Option<(u64, u64)> {
    let validity = Certificate::from_der(der).ok()?.tbs_certificate.validity;
    let ms = |time: x509_cert::time::Time| millis(time.to_unix_duration());
    Some((ms(validity.not_before), ms(validity.not_after)))
}

impl Gathered {
    /// Whether a file that the transport needs is closed to this user alone.
    pub(super) fn is_closed_to_me(&self) -> bool {
        let closed =
            |file: &Named| matches!(&file.read, Err(error) if error.kind() == ErrorKind::PermissionDenied);
        self.hidden || self.files.iter().any(closed)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_services_token_is_shown_to_the_services_server_alone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(CREDENTIAL);
        fs::write(&file, "sesame").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
        let server = config::Server::default();
        let gathered = gather_from(&server, directory.path(), true);
        assert!(matches!(gathered.token, Shown::As(Some(_))));
        let gathered = gather_from(&server, directory.path(), false);
        assert!(matches!(gathered.token, Shown::Withheld));
        assert_eq!(gathered.server.token_file, None);
        let found = check(&gathered, &Tried::NoServer, None);
        assert_eq!(found[0].result, Outcome::CouldNotCheck);
        assert!(found[0].text.contains("another configuration"), "{found:?}");
        assert!(!is_the_services(&file));
    }
}
