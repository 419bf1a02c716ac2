//! The mappings that are built in, and the settings that complete them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::mapping::{CredentialSettings, HttpMapping, MappingError};
use super::mapping_check::parse_mapping;
use super::type_mapping::TypeMapping;

const ZOHO_PRESET: &str = include_str!("presets/zoho.toml");
const SALESFORCE_PRESET: &str = include_str!("presets/salesforce.toml");

/// What Zoho can run for a record.
const ZOHO_TRIGGERS: [&str; 5] = ["workflow", "approval", "blueprint", "pathfinder", "orchestration"];

/// `[destination.zoho]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ZohoSettings {
    /// The accounts server of the data center, such as `https://accounts.zoho.eu`.
    pub(crate) accounts_url: String,
    /// The address for calls, if the response with a token names a wrong one.
    pub(crate) api_domain: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_secret_file: PathBuf,
    pub(crate) refresh_token_file: PathBuf,
}

/// `[destination.salesforce]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SalesforceSettings {
    /// The domain of the organization, such as `https://example.my.salesforce.com`.
    pub(crate) login_url: String,
    /// Such as `v62.0`.
    pub(crate) api_version: String,
    pub(crate) client_id: String,
    pub(crate) client_secret_file: PathBuf,
}

/// Zoho CRM, without record types.
pub(crate) fn zoho_mapping(settings: &ZohoSettings) -> Result<HttpMapping, MappingError> {
    let mut mapping = parse_mapping(ZOHO_PRESET)?;
    mapping.auth.token_url = Some(join_url(&settings.accounts_url, "/oauth/v2/token"));
    mapping.auth.credentials = CredentialSettings {
        client_id: Some(settings.client_id.clone()),
        client_secret_file: Some(settings.client_secret_file.clone()),
        refresh_token_file: Some(settings.refresh_token_file.clone()),
        token_file: None,
    };
    if let Some(api) = &settings.api_domain {
        mapping.api = Some(api.clone());
        mapping.auth.api_path = None;
    }
    Ok(mapping)
}

/// Whether Zoho can run what these types trigger: other names run nothing, or make Zoho refuse every record.
pub(crate) fn check_zoho_triggers(types: &[TypeMapping]) -> Result<(), MappingError> {
    let is_unknown = |trigger: &&String| !ZOHO_TRIGGERS.contains(&trigger.as_str());
    for record_type in types {
        if let Some(unknown) = record_type.trigger.iter().flatten().find(is_unknown) {
            let (name, known) = (&record_type.name, ZOHO_TRIGGERS.join("`, `"));
            return Err(MappingError::new(
                "type.trigger",
                format!("of `{name}` has `{unknown}`, and may have `{known}` only"),
            ));
        }
    }
    Ok(())
}

/// Salesforce, without record types.
pub(crate) fn salesforce_mapping(settings: &SalesforceSettings) -> Result<HttpMapping, MappingError> {
    let version = settings.api_version.as_str();
    let digits = version.strip_prefix('v').and_then(|version| version.split_once('.'));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits.is_some_and(|(major, minor)| is_number(major) && is_number(minor)) {
        return Err(MappingError::new("salesforce.api_version", "must have the form v62.0"));
    }
    let mut mapping = parse_mapping(SALESFORCE_PRESET)?;
    mapping.url = mapping.url.replace("v62.0", version);
    mapping.auth.token_url = Some(join_url(&settings.login_url, "/services/oauth2/token"));
    mapping.auth.credentials = CredentialSettings {
        client_id: Some(settings.client_id.clone()),
        client_secret_file: Some(settings.client_secret_file.clone()),
        refresh_token_file: None,
        token_file: None,
    };
    Ok(mapping)
}

fn join_url(base: &str, path: &str) -> String {
    format!("{}{path}", base.trim_end_matches('/'))
}
