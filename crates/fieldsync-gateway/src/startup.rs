//! What the configuration names, read and checked before the ledger is opened.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;

use super::RunError;
use super::config_check::{show_config, warn_of_clear_text};
use super::config_file::{ConfigFileError, LoadedConfig};
use super::credential_file::find_secret_file;
use super::destination::{Destination, ReloadCache};
use super::destination_config::{DestinationConfigError, build_destination, build_mapping};
use super::forward::ForwardTarget;
use super::ledger_postgres::DatabaseAddress;
use super::server_tls::{ServerCertificate, build_config, load_client_verifier};
use super::token_file::TokenFile;

/// The parts of the gateway that come from files.
pub(super) struct ConfiguredParts {
    pub(super) tokens: Option<Arc<TokenFile>>,
    pub(super) admin_tokens: Option<Arc<TokenFile>>,
    pub(super) tls: Option<ServerConfig>,
    /// That of `tls`.
    pub(super) certificate: Option<Arc<ServerCertificate>>,
    pub(super) target: Option<ForwardTarget>,
}

impl ConfiguredParts {
    /// Reads all files except those of the destination.
    pub(super) fn read(loaded: &LoadedConfig) -> Result<Self, RunError> {
        let gateway = &loaded.config.gateway;
        let open_tokens = |path: Option<&Path>, key: &str| {
            let tokens = path.map(|path| TokenFile::open(&find_secret_file(path))).transpose();
            Ok::<_, RunError>(tokens.map_err(|error| at_key(loaded, key, error.into()))?.map(Arc::new))
        };
        let tokens = open_tokens(gateway.token_file.as_deref(), "gateway.token_file")?;
        let admin_tokens = open_tokens(gateway.admin_token_file.as_deref(), "gateway.admin_token_file")?;
        let (certificate, tls) = match (&gateway.tls_cert_file, &gateway.tls_key_file) {
            (Some(certificate), Some(key)) => {
                let certificate =
                    ServerCertificate::open(&find_secret_file(certificate), &find_secret_file(key));
                let certificate = Arc::new(
                    certificate.map_err(|error| at_key(loaded, "gateway.tls_cert_file", error.into()))?,
                );
                let authorities = gateway.client_ca_file.as_deref().map(find_secret_file);
                let tls = load_client_verifier(authorities.as_deref())
                    .and_then(|clients| build_config(Arc::clone(&certificate), clients))
                    .map_err(|error| at_key(loaded, "gateway.client_ca_file", error.into()))?;
                (Some(certificate), Some(tls))
            }
            _ => (None, None),
        };
        let target = loaded.config.forward.build_target();
        let target = target.map_err(|error| at_key(loaded, error.key(), error.into()))?;
        Ok(Self { tokens, admin_tokens, tls, certificate, target })
    }
}

/// The destination of the configuration; `None` without one.
pub(super) fn read_destination(
    loaded: &LoadedConfig,
    cache: &ReloadCache,
) -> Result<Option<Arc<dyn Destination>>, RunError> {
    build_destination(&loaded.config.destination, cache).map_err(|error| blame_destination(loaded, error))
}

/// What people should know of the configuration, although it can be used.
pub(super) fn find_warnings(loaded: &LoadedConfig) -> Result<Vec<String>, RunError> {
    let mapping =
        build_mapping(&loaded.config.destination).map_err(|error| blame_destination(loaded, error))?;
    Ok(warn_of_clear_text(&loaded.config, mapping.as_ref()))
}

/// Checks all that a start would check except the ledger, and prints the effective configuration.
pub(super) fn check_config(loaded: &LoadedConfig, cache: &ReloadCache) -> Result<(), RunError> {
    let store = &loaded.config.gateway.store;
    let checked = if DatabaseAddress::is_database_url(store) {
        DatabaseAddress::parse(store, None).map(drop)
    } else {
        DatabaseAddress::reject_lookalike(store)
    };
    checked.map_err(|error| at_key(loaded, "gateway.store", error.into()))?;
    ConfiguredParts::read(loaded)?;
    read_destination(loaded, cache)?;
    for warning in find_warnings(loaded)? {
        // Without standard error, the warning cannot be reported.
        drop(writeln!(io::stderr(), "fieldsync-gateway: warning: {warning}"));
    }
    let text = show_config(&loaded.config).map_err(ConfigFileError::from)?;
    io::stdout().write_all(text.as_bytes()).map_err(RunError::Announce)
}

fn blame_destination(loaded: &LoadedConfig, error: DestinationConfigError) -> RunError {
    at_key(loaded, error.key, error.into())
}

fn at_key(loaded: &LoadedConfig, key: &str, error: RunError) -> RunError {
    RunError::AtKey { place: loaded.name_place(key), source: Box::new(error) }
}
