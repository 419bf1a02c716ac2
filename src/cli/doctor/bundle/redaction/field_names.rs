//! Names of fields and settings that say what their values are.

/// Fields that contain data of records, wherever they are.
pub(super) const DROPPED_FIELDS: [&str; 3] = ["payload", "receipt", "field"];
/// Parts of the names of configuration keys whose value is a secret, unless they name a file.
const SECRET_NAMES: [&str; 5] = ["token", "secret", "password", "credential", "header"];
const FILE_SUFFIX: &str = "_file";
/// When a credential expires, and how early that is reported, is not secret.
const DURATION_SUFFIX: &str = "_expiry";
const COMMAND_SETTING: &str = "alert_command";

/// Whether the value of a configuration key is a secret. A key that ends with `_file` names a file.
pub(crate) fn is_secret_setting(name: &str) -> bool {
    let name = name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let is_harmless = [FILE_SUFFIX, DURATION_SUFFIX].iter().any(|suffix| name.ends_with(suffix));
    !is_harmless && SECRET_NAMES.iter().any(|secret| name.contains(secret))
}

/// Whether the value of a configuration key is a program with its arguments, which may be secrets.
pub(crate) fn is_command_setting(name: &str) -> bool {
    name.rsplit('.').next().is_some_and(|name| name.eq_ignore_ascii_case(COMMAND_SETTING))
}
