//! Whether the daemon can use every file that proves who the device is, or whom it trusts.
//!
//! The daemon's own reader checks each secret. A file that only this user may not read is not a problem: the daemon may
//! be allowed to read it.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt as _;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::access::{User, user_name};
use super::finding::{CheckResult, Finding, or_ok};
use super::probe::ProbeResult;
use super::secrets::{CredentialFile, CredentialFileKind, GatheredCredentials};
use crate::cli::format::duration;
use crate::clock::{rfc3339, wall_ms};
use crate::config;
use crate::transport::credential::expiry::certificate_validity;
use crate::transport::credential::{CLEAR_TOKEN_WARNING, Credentials};
use crate::transport::http::TransportError;

/// Warns this long before a certificate expires.
const EXPIRY_WARNING_MS: u64 = 30 * 24 * 3600 * 1000;
/// The daemon's limit, too.
const PEM_BYTES_MAX: u64 = 4 << 20;
const RUN_AS_ROOT: &str = "sudo fieldsync doctor";

pub(super) fn check_credentials(
    gathered: &GatheredCredentials,
    probe: &ProbeResult,
    daemon: Option<&User>,
) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        gathered.files.iter().flat_map(|file| check_file(file, daemon, wall_ms())).collect();
    if gathered.is_handover_hidden {
        findings.push(Finding::unchecked("only root can see whether systemd passes a token", RUN_AS_ROOT));
    }
    if gathered.is_token_for_other_server {
        findings.push(Finding::unchecked(
            "the token that systemd passes to the service is not sent to the server of another configuration",
            "sudo fieldsync doctor, without --config, asks the server of the service",
        ));
    }
    if gathered.server.is_unencrypted() && gathered.server.token_file.is_some() {
        findings.push(Finding::warning(
            CLEAR_TOKEN_WARNING,
            "set server.url to https://, then: systemctl reload fieldsync",
        ));
    }
    // If one of the files cannot be read, a finding above already says so.
    if let ProbeResult::Unusable(TransportError::Tls(error)) = probe
        && findings.iter().all(|finding| finding.result != CheckResult::Problem)
    {
        findings.push(Finding::problem(
            format!("the certificates cannot be used: {error}"),
            "put the certificate and the key that belong together into server.client_cert_file and \
             server.client_key_file, and authorities as PEM into server.ca_file",
        ));
    }
    or_ok(findings, || match gathered.files.as_slice() {
        [] => "no token or certificate is configured: requests are sent without one".to_owned(),
        files => {
            let keys: Vec<&str> = files.iter().map(|file| file.key).collect();
            format!("the daemon can use the files of {}", keys.join(", "))
        }
    })
}

fn check_file(file: &CredentialFile, daemon: Option<&User>, now: u64) -> Vec<Finding> {
    let (key, path) = (file.key, file.path.display());
    match &file.open_result {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let owner = fs::metadata(&file.path).map_or_else(|_| "root".into(), |file| user_name(file.uid()));
            return vec![Finding::unchecked(format!("only {owner} can read {path} ({key})"), RUN_AS_ROOT)];
        }
        Err(error) => {
            return vec![Finding::problem(
                format!(
                    "{path} ({key}) cannot be read: {error}. Records are kept, but none is sent until then"
                ),
                install_command(file, daemon),
            )];
        }
        Ok(()) => {}
    }
    if file.kind != CredentialFileKind::Certificates
        && let Some(finding) = check_secret(file)
    {
        return vec![finding];
    }
    if file.kind != CredentialFileKind::SystemdToken
        && let Some(daemon) = daemon
        && matches!(daemon.may_read(&file.path), Ok(false))
    {
        let user = &daemon.name;
        return vec![Finding::problem(
            format!(
                "{path} ({key}) cannot be read by {user}, the user of the daemon. Records are kept, but none is sent \
                 until then"
            ),
            match file.kind {
                // Certificates are not secret.
                CredentialFileKind::Certificates => {
                    format!("sudo chmod a+r {path}, and let {user} enter every directory of that path")
                }
                _ => format!("sudo chown {user}: {path}, and let {user} enter every directory of that path"),
            },
        )];
    }
    if file.kind == CredentialFileKind::Certificates { check_validity(file, now) } else { Vec::new() }
}

fn install_command(file: &CredentialFile, daemon: Option<&User>) -> String {
    let path = file.path.display();
    let user = daemon.map_or("fieldsync", |user| &user.name);
    match file.kind {
        CredentialFileKind::Token | CredentialFileKind::SystemdToken | CredentialFileKind::OtherSecret => {
            format!("sudo install -m 0600 -o {user} FILE {path}")
        }
        CredentialFileKind::Certificates => format!("sudo install -m 0644 FILE {path}"),
    }
}

/// Why the daemon would refuse this secret, in the daemon's words.
fn check_secret(file: &CredentialFile) -> Option<Finding> {
    let path = Some(file.path.clone());
    let server = match file.kind {
        CredentialFileKind::Token | CredentialFileKind::SystemdToken => {
            config::Server { token_file: path, ..config::Server::default() }
        }
        _ => config::Server { client_key_file: path, ..config::Server::default() },
    };
    let refusal = Credentials::read_configured(&server).token().err()?.to_string();
    let (wrong, remedy) =
        refusal.split_once(" To fix it: ").unwrap_or((&refusal, "replace the file with a correct one"));
    Some(Finding::problem(wrong, remedy))
}

/// Whether the certificates of a file are valid now and for a while.
fn check_validity(file: &CredentialFile, now: u64) -> Vec<Finding> {
    let (key, path) = (file.key, file.path.display());
    let mut bytes = Vec::new();
    let read = File::open(&file.path).and_then(|file| file.take(PEM_BYTES_MAX).read_to_end(&mut bytes));
    let periods: Vec<(u64, u64)> = match read {
        Ok(_) => {
            let certificates = CertificateDer::pem_slice_iter(&bytes).flatten();
            let validities = certificates.filter_map(|der| certificate_validity(&der));
            validities.map(|validity| (validity.begins.unwrap_or_default(), validity.ends)).collect()
        }
        Err(_) => return Vec::new(),
    };
    // One valid authority is enough. The first certificate of a chain is the device's own.
    let period = match file.kind {
        CredentialFileKind::Certificates if key == "server.ca_file" => {
            periods.into_iter().max_by_key(|(_, end)| *end)
        }
        _ => periods.into_iter().next(),
    };
    let Some((begin, end)) = period else {
        return vec![Finding::problem(
            format!("{path} ({key}) contains no certificate that can be read"),
            format!("put certificates as PEM into {path}"),
        )];
    };
    let renew = format!("have the certificate renewed and put it into {path}; the daemon uses it at once");
    if end <= now {
        return vec![Finding::problem(
            format!(
                "the certificate in {path} ({key}) expired on {}, by the clock of this device",
                rfc3339(end)
            ),
            renew,
        )];
    }
    if begin > now {
        return vec![Finding::problem(
            format!(
                "the certificate in {path} ({key}) is valid from {}: the clock of this device is behind",
                rfc3339(begin)
            ),
            "set the clock: sudo timedatectl set-ntp true",
        )];
    }
    if end - now < EXPIRY_WARNING_MS {
        return vec![Finding::warning(
            format!("the certificate in {path} ({key}) expires in {}", duration(end - now)),
            renew,
        )];
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::secrets::{CREDENTIAL_NAME, ProbeToken, is_config_of_service};
    use super::*;

    #[test]
    fn the_token_of_the_service_is_sent_only_to_the_server_of_the_service() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(CREDENTIAL_NAME);
        fs::write(&file, "sesame").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
        let server = config::Server::default();
        let gathered = GatheredCredentials::gather_from(&server, directory.path(), true);
        assert!(matches!(gathered.token, ProbeToken::Use(Some(_))));
        let gathered = GatheredCredentials::gather_from(&server, directory.path(), false);
        assert!(matches!(gathered.token, ProbeToken::Withheld));
        assert_eq!(gathered.server.token_file, None);
        let findings = check_credentials(&gathered, &ProbeResult::NoServer, None);
        assert_eq!(findings[0].result, CheckResult::CouldNotCheck);
        assert!(findings[0].text.contains("another configuration"), "{findings:?}");
        assert!(!is_config_of_service(&file));
    }
}
