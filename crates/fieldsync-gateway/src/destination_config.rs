//! The section `[destination]`, and the destination that it describes.

use std::fmt;
use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::credential_file::find_secret_file;
use super::destination::{
    Destination, HttpDestination, HttpDestinationError, HttpMapping, MappingError, ReloadCache,
    SalesforceSettings, TypeMapping, ZohoSettings, check_zoho_triggers, parse_mapping, salesforce_mapping,
    zoho_mapping,
};
use super::http_client::read_secret;
use super::option_values::PositiveDuration;

/// Less than the 60 s that devices wait for a response.
const TIME_BUDGET_DEFAULT: PositiveDuration = PositiveDuration::secs(50);

/// Which destination records have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DestinationKind {
    /// The ledger alone.
    #[default]
    None,
    Zoho,
    Salesforce,
    /// What `mapping_file` describes.
    Http,
}

impl fmt::Display for DestinationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Zoho => "zoho",
            Self::Salesforce => "salesforce",
            Self::Http => "http",
        })
    }
}

/// `[destination]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DestinationConfig {
    pub(crate) kind: DestinationKind,
    /// How long the response to a batch waits for the destination.
    pub(crate) time_budget: PositiveDuration,
    /// Calls at a time, instead of what the destination's mapping says.
    pub(crate) max_in_flight: Option<NonZeroUsize>,
    /// The mapping of `kind = "http"`.
    pub(crate) mapping_file: Option<PathBuf>,
    pub(crate) zoho: Option<ZohoSettings>,
    pub(crate) salesforce: Option<SalesforceSettings>,
    #[serde(rename = "type", skip_serializing_if = "Vec::is_empty")]
    pub(crate) types: Vec<TypeMapping>,
}

impl Default for DestinationConfig {
    fn default() -> Self {
        Self {
            kind: DestinationKind::None,
            time_budget: TIME_BUDGET_DEFAULT,
            max_in_flight: None,
            mapping_file: None,
            zoho: None,
            salesforce: None,
            types: Vec::new(),
        }
    }
}

/// Why the destination cannot be used. `key` is the key of the configuration to correct.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub(crate) struct DestinationConfigError {
    pub(crate) key: &'static str,
    #[source]
    problem: DestinationProblem,
}

#[derive(Debug, thiserror::Error)]
enum DestinationProblem {
    #[error("is needed with `destination.kind = \"{0}\"`")]
    Missing(DestinationKind),
    #[error("cannot read {}", path.display())]
    MappingFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{}", path.display())]
    InMappingFile {
        path: PathBuf,
        #[source]
        source: HttpDestinationError,
    },
    #[error(transparent)]
    Mapping(#[from] HttpDestinationError),
    #[error(
        "cannot read the secret {}: it must be readable for the user of the gateway, or be a credential of its unit",
        path.display()
    )]
    Secret {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the file {} is empty: it must hold the secret", path.display())]
    EmptySecret { path: PathBuf },
}

impl DestinationProblem {
    fn at(self, key: &'static str) -> DestinationConfigError {
        DestinationConfigError { key, problem: self }
    }
}

/// The destination of the configuration. It is read and checked, and not called.
pub(crate) fn build_destination(
    config: &DestinationConfig,
    cache: &ReloadCache,
) -> Result<Option<Arc<dyn Destination>>, DestinationConfigError> {
    let Some(mapping) = build_mapping(config)? else {
        return Ok(None);
    };
    let destination = HttpDestination::new(mapping, cache).map_err(|error| config.blame_mapping(error))?;
    Ok(Some(Arc::new(destination)))
}

/// How the destination is called; `None` without one.
pub(crate) fn build_mapping(
    config: &DestinationConfig,
) -> Result<Option<HttpMapping>, DestinationConfigError> {
    let mut mapping = match config.kind {
        DestinationKind::None => return Ok(None),
        DestinationKind::Zoho => {
            let settings = config.require(config.zoho.as_ref(), "destination.zoho")?;
            check_zoho_triggers(&config.types).map_err(|error| config.blame_mapping(error.into()))?;
            zoho_mapping(settings).map_err(|error| config.blame_mapping(error.into()))?
        }
        DestinationKind::Salesforce => {
            let settings = config.require(config.salesforce.as_ref(), "destination.salesforce")?;
            salesforce_mapping(settings).map_err(|error| config.blame_mapping(error.into()))?
        }
        DestinationKind::Http => {
            let path = config.require(config.mapping_file.as_ref(), "destination.mapping_file")?;
            read_mapping_file(path).map_err(|problem| problem.at("destination.mapping_file"))?
        }
    };
    mapping.types.extend(config.types.iter().cloned());
    if let Some(limit) = config.max_in_flight {
        mapping.limits.max_in_flight = limit.get();
    }
    let credentials = &mut mapping.auth.credentials;
    for (file, key) in [
        (&mut credentials.client_secret_file, config.key_of("client_secret_file")),
        (&mut credentials.refresh_token_file, config.key_of("refresh_token_file")),
        (&mut credentials.token_file, config.key_of("token_file")),
    ] {
        if let Some(path) = file {
            *path = find_secret_file(path);
            check_secret(path).map_err(|problem| problem.at(key))?;
        }
    }
    Ok(Some(mapping))
}

impl DestinationConfig {
    fn require<'a, T>(
        &self,
        value: Option<&'a T>,
        key: &'static str,
    ) -> Result<&'a T, DestinationConfigError> {
        value.ok_or_else(|| DestinationProblem::Missing(self.kind).at(key))
    }

    /// The key with this secret.
    fn key_of(&self, name: &str) -> &'static str {
        match (self.kind, name) {
            (DestinationKind::Zoho, "client_secret_file") => "destination.zoho.client_secret_file",
            (DestinationKind::Zoho, "refresh_token_file") => "destination.zoho.refresh_token_file",
            (DestinationKind::Salesforce, "client_secret_file") => {
                "destination.salesforce.client_secret_file"
            }
            _ => "destination.mapping_file",
        }
    }

    fn blame_mapping(&self, error: HttpDestinationError) -> DestinationConfigError {
        match &self.mapping_file {
            Some(path) if self.kind == DestinationKind::Http => {
                DestinationProblem::InMappingFile { path: path.clone(), source: error }
                    .at("destination.mapping_file")
            }
            _ => DestinationProblem::Mapping(error).at("destination"),
        }
    }
}

fn read_mapping_file(path: &Path) -> Result<HttpMapping, DestinationProblem> {
    let text = fs::read_to_string(path)
        .map_err(|source| DestinationProblem::MappingFile { path: path.into(), source })?;
    parse_mapping(&text).map_err(|error: MappingError| DestinationProblem::InMappingFile {
        path: path.into(),
        source: error.into(),
    })
}

fn check_secret(path: &Path) -> Result<(), DestinationProblem> {
    match read_secret(path) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(DestinationProblem::EmptySecret { path: path.into() }),
        Err(source) => Err(DestinationProblem::Secret { path: path.into(), source }),
    }
}
