//! Checks of a mapping that go beyond its types. Each message names the key.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value;
use toml::Table;

use super::encode::check_templates;
use super::mapping::{AuthKind, AuthMapping, CALLS_IN_FLIGHT_MAX, Correlation, HttpMapping, MappingError};
use super::type_mapping::TypeMapping;
use crate::config::{describe_syntax, describe_value};
use crate::http_client::parse_http_url;

/// The toml crate reads a date as an object with this member.
const TOML_DATE_MEMBER: &str = "$__toml_private_datetime";
/// A longer time in a mapping is a mistake.
const DURATION_MAX: Duration = Duration::from_hours(24);
const API_PLACEHOLDER: &str = "{api}";

/// Keys and sections whose values may be shown. Headers, addresses, constants and `auth` may have secrets, although
/// they should not.
const SHOWN_KEYS: [&str; 8] =
    ["method", "max_records", "max_bytes", "atomic", "results", "call_error", "codes", "limits"];

/// Reads a mapping from TOML, and checks what does not depend on the record types.
pub(crate) fn parse_mapping(text: &str) -> Result<HttpMapping, MappingError> {
    // The parser's own texts quote the line, which may have a secret.
    toml::from_str::<Table>(text)
        .map_err(|error| MappingError::Syntax(describe_syntax(text, &error).to_string()))?;
    let mapping: HttpMapping = toml::from_str(text)
        .map_err(|error| MappingError::Syntax(describe_value(text, &error, may_show_value_of).to_string()))?;
    check_mapping(&mapping)?;
    Ok(mapping)
}

fn may_show_value_of(key: &str) -> bool {
    SHOWN_KEYS.contains(&key.split('.').next().unwrap_or(key))
}

fn check_mapping(mapping: &HttpMapping) -> Result<(), MappingError> {
    if mapping.max_records == 0 {
        return Err(MappingError::new("max_records", "must not be zero"));
    }
    if !(1..=CALLS_IN_FLIGHT_MAX).contains(&mapping.limits.max_in_flight) {
        let problem = format!("must be from 1 to {CALLS_IN_FLIGHT_MAX}");
        return Err(MappingError::new("limits.max_in_flight", problem));
    }
    if mapping.limits.max_large_in_flight == Some(0) {
        return Err(MappingError::new("limits.max_large_in_flight", "must not be zero"));
    }
    if mapping.limits.small_call_records.is_none() != mapping.limits.max_large_in_flight.is_none() {
        return Err(MappingError::new(
            "limits.small_call_records",
            "needs `limits.max_large_in_flight`, too",
        ));
    }
    if mapping.wrap.name.is_empty() && !mapping.wrap.constants.is_empty() {
        return Err(MappingError::new("wrap.constants", "needs `wrap.name`"));
    }
    if let Some((code, first, second)) = mapping.codes.find_conflict() {
        return Err(MappingError::new(
            format!("codes.{second}"),
            format!("has `{code}`, as `codes.{first}`"),
        ));
    }
    let limits = &mapping.limits;
    for (key, duration) in [
        ("limits.call_timeout", limits.call_timeout),
        ("limits.record_retry_after", limits.record_retry_after),
        ("auth.token_window", mapping.auth.token_window),
    ] {
        if duration > DURATION_MAX {
            return Err(MappingError::new(key, "must not be longer than a day"));
        }
    }
    if mapping.auth.max_token_requests == Some(0) {
        return Err(MappingError::new("auth.max_token_requests", "must not be zero"));
    }
    check_results(mapping)?;
    check_constants("wrap.constants", mapping.wrap.constants.values())?;
    check_constants("record.constants", mapping.record.constants.values())
}

fn check_results(mapping: &HttpMapping) -> Result<(), MappingError> {
    let results = &mapping.results;
    if results.path.is_some() && results.by == Correlation::Field && results.record_id.is_empty() {
        return Err(MappingError::new("results.record_id", "is needed with `by = \"field\"`"));
    }
    if results.errors_path.is_some() && results.by == Correlation::Position {
        return Err(MappingError::new("results.errors_path", "needs `by = \"field\"`"));
    }
    if results.path.is_some() && results.ok.is_none() && results.errors_path.is_none() {
        return Err(MappingError::new("results.ok", "is needed: it tells applied records from others"));
    }
    if results.path.is_none() && !mapping.atomic {
        return Err(MappingError::new("results.path", "is needed, unless `atomic = true`"));
    }
    Ok(())
}

/// Checks all that depends on the record types and on the credentials, before the mapping is used.
pub(crate) fn check_complete(mapping: &HttpMapping) -> Result<(), MappingError> {
    check_mapping(mapping)?;
    if mapping.types.is_empty() {
        return Err(MappingError::new("type", "is needed: which records go to the destination"));
    }
    let mut names = HashSet::new();
    for record_type in &mapping.types {
        if !names.insert(&record_type.name) {
            return Err(MappingError::new("type.name", format!("has `{}` twice", record_type.name)));
        }
        check_type(mapping, record_type)?;
    }
    check_auth(&mapping.auth)?;
    if mapping.url.contains(API_PLACEHOLDER) && mapping.api.is_none() && mapping.auth.api_path.is_none() {
        return Err(MappingError::new("api", "is needed for `{api}` in `url`"));
    }
    check_url("api", mapping.api.as_deref())?;
    if !mapping.url.starts_with(API_PLACEHOLDER) {
        check_url("url", Some(&mapping.url.replace(['{', '}'], "")))?;
    }
    Ok(())
}

fn check_type(mapping: &HttpMapping, record_type: &TypeMapping) -> Result<(), MappingError> {
    let name = &record_type.name;
    let is_path_part = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
    };
    for (key, value) in [("module", record_type.module()), ("id_field", record_type.id_field.as_str())] {
        if !is_path_part(value) {
            return Err(MappingError::new(
                format!("type.{key}"),
                format!("of `{name}` may have letters, digits, and the characters _ - . only"),
            ));
        }
    }
    let mut own = HashSet::new();
    if let Some(repeated) = record_type.own_fields().find(|own_field| !own.insert(own_field.to_lowercase())) {
        return Err(MappingError::new("type", format!("`{name}` sets the field `{repeated}` twice")));
    }
    if let Some(reserved) = record_type.own_fields().find(|own_field| mapping.record.is_reserved(own_field)) {
        return Err(MappingError::new(
            "type",
            format!("`{name}` must not set `{reserved}`, which means something to the destination"),
        ));
    }
    let mut targets = HashSet::new();
    for (field, target) in record_type.fields.iter().filter(|(_, target)| !target.is_empty()) {
        if record_type.sets_field(target) || mapping.record.is_reserved(target) {
            return Err(MappingError::new(
                format!("type.fields.{field}"),
                format!("of `{name}` must not be `{target}`, which has a meaning of its own there"),
            ));
        }
        if !targets.insert(target) {
            return Err(MappingError::new("type.fields", format!("of `{name}` has `{target}` twice")));
        }
    }
    check_constants("type.constants", record_type.constants.values())?;
    check_templates(mapping, record_type)
}

fn check_auth(auth: &AuthMapping) -> Result<(), MappingError> {
    let credentials = &auth.credentials;
    let needed: &[(&str, bool)] = match auth.kind {
        AuthKind::BearerFile => &[("auth.credentials.token_file", credentials.token_file.is_some())],
        AuthKind::OauthRefresh => &[
            ("auth.token_url", auth.token_url.is_some()),
            ("auth.credentials.client_id", credentials.client_id.is_some()),
            ("auth.credentials.client_secret_file", credentials.client_secret_file.is_some()),
            ("auth.credentials.refresh_token_file", credentials.refresh_token_file.is_some()),
        ],
        AuthKind::ClientCredentials => &[
            ("auth.token_url", auth.token_url.is_some()),
            ("auth.credentials.client_id", credentials.client_id.is_some()),
            ("auth.credentials.client_secret_file", credentials.client_secret_file.is_some()),
        ],
    };
    match needed.iter().find(|(_, is_set)| !is_set) {
        Some((key, _)) => Err(MappingError::new(*key, "is needed")),
        None => check_url("auth.token_url", auth.token_url.as_deref()),
    }
}

fn check_url(key: &str, url: Option<&str>) -> Result<(), MappingError> {
    match url {
        Some(url) if parse_http_url(url).is_none() => {
            Err(MappingError::new(key, "must be an http or https URL without user and password"))
        }
        _ => Ok(()),
    }
}

/// JSON has no dates, which destinations write in different forms, and only finite numbers.
fn check_constants<'a>(key: &str, values: impl IntoIterator<Item = &'a Value>) -> Result<(), MappingError> {
    fn has_date(value: &Value) -> bool {
        match value {
            Value::Object(members) => {
                members.contains_key(TOML_DATE_MEMBER) || members.values().any(has_date)
            }
            Value::Array(values) => values.iter().any(has_date),
            _ => false,
        }
    }
    // TOML has no null: it stands for a number that JSON does not have.
    fn has_null(value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::Object(members) => members.values().any(has_null),
            Value::Array(values) => values.iter().any(has_null),
            _ => false,
        }
    }
    for value in values {
        if has_date(value) {
            return Err(MappingError::new(key, "has a date: write it as a text, in the destination's form"));
        }
        if has_null(value) {
            return Err(MappingError::new(key, "has a number that is not finite: JSON cannot express it"));
        }
    }
    Ok(())
}
