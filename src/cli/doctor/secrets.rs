//! Gathers the files that prove who the device is and whom it trusts, as far as this user may read them.
//!
//! The daemon's own reader reads the token. Files are opened to see whether that is possible; nothing of what they
//! hold is shown.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::config::{self, DEFAULT_FILE};
use crate::transport::credential::{Credentials, Token};

/// Where systemd puts what `LoadCredential=` of the service names.
const SERVICE_CREDENTIALS_DIR: &str = "/run/credentials/fieldsync.service";
pub(super) const CREDENTIAL_NAME: &str = "fieldsync-token";

/// What the daemon would use, as far as this user can see it.
pub(super) struct GatheredCredentials {
    /// With the file that systemd hands over, if the daemon uses it.
    pub(super) server: config::Server,
    pub(super) token: ProbeToken,
    pub(super) files: Vec<CredentialFile>,
    /// This user may not see whether systemd passes a token.
    pub(super) is_handover_hidden: bool,
    /// systemd hands a token to the service, but this configuration is not the service's.
    pub(super) is_token_for_other_server: bool,
}

/// The token for a request to the server.
pub(super) enum ProbeToken {
    /// This one, or none because none is configured.
    Use(Option<Token>),
    /// The daemon may have a token, but the doctor does not send it.
    Withheld,
}

/// A file that a key of the configuration names.
pub(super) struct CredentialFile {
    pub(super) key: &'static str,
    pub(super) path: PathBuf,
    pub(super) kind: CredentialFileKind,
    /// Whether this user can open it.
    pub(super) open_result: io::Result<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CredentialFileKind {
    Token,
    /// A token that systemd hands over, which makes sure that the daemon may read it.
    SystemdToken,
    OtherSecret,
    Certificates,
}

impl GatheredCredentials {
    /// `config_file` is the file that `--config` named instead of the service's.
    pub(super) fn gather(server: &config::Server, config_file: Option<&Path>) -> Self {
        match std::env::var_os("CREDENTIALS_DIRECTORY") {
            Some(directory) => Self::gather_from(server, Path::new(&directory), true),
            None => Self::gather_from(
                server,
                Path::new(SERVICE_CREDENTIALS_DIR),
                config_file.is_none_or(is_config_of_service),
            ),
        }
    }

    /// The token is sent only to the server that it belongs to.
    pub(super) fn gather_from(
        server: &config::Server,
        credentials_dir: &Path,
        is_server_of_service: bool,
    ) -> Self {
        let mut server = server.clone();
        let (mut is_handover_hidden, mut is_token_for_other_server) = (false, false);
        let mut token_kind = CredentialFileKind::Token;
        if server.token_file.is_none() {
            let file = credentials_dir.join(CREDENTIAL_NAME);
            match fs::metadata(&file) {
                Ok(_) if !is_server_of_service => is_token_for_other_server = true,
                Ok(_) => (server.token_file, token_kind) = (Some(file), CredentialFileKind::SystemdToken),
                Err(error) => {
                    is_handover_hidden = is_server_of_service && error.kind() == ErrorKind::PermissionDenied;
                }
            }
        }
        let token = match Credentials::read_configured(&server).token() {
            Ok(token) if !is_handover_hidden && !is_token_for_other_server => ProbeToken::Use(token),
            _ => ProbeToken::Withheld,
        };
        let files = list_files(&server, token_kind);
        Self { server, token, files, is_handover_hidden, is_token_for_other_server }
    }

    /// Whether this user may not read a file that the transport needs.
    pub(super) fn has_unreadable_file(&self) -> bool {
        let is_denied = |file: &CredentialFile| matches!(&file.open_result, Err(error) if error.kind() == ErrorKind::PermissionDenied);
        self.is_handover_hidden || self.files.iter().any(is_denied)
    }
}

pub(super) fn is_config_of_service(config_file: &Path) -> bool {
    let is_same = |default: PathBuf| config_file.canonicalize().is_ok_and(|named| named == default);
    Path::new(DEFAULT_FILE).canonicalize().is_ok_and(is_same)
}

fn list_files(server: &config::Server, token_kind: CredentialFileKind) -> Vec<CredentialFile> {
    let token_key = match token_kind {
        CredentialFileKind::SystemdToken => "the systemd credential fieldsync-token",
        _ => "server.token_file",
    };
    [
        (token_key, &server.token_file, token_kind),
        ("server.client_key_file", &server.client_key_file, CredentialFileKind::OtherSecret),
        ("server.proxy_credential_file", &server.proxy_credential_file, CredentialFileKind::OtherSecret),
        ("server.client_cert_file", &server.client_cert_file, CredentialFileKind::Certificates),
        ("server.ca_file", &server.ca_file, CredentialFileKind::Certificates),
    ]
    .into_iter()
    .filter_map(|(key, path, kind)| {
        let path = path.clone()?;
        // Only regular files are opened: opening a pipe would block.
        let open_result = fs::metadata(&path).and_then(|file| {
            if file.is_file() {
                File::open(&path).map(drop)
            } else {
                Err(io::Error::other("it is not a file"))
            }
        });
        Some(CredentialFile { key, path, kind, open_result })
    })
    .collect()
}
