//! Whether the configuration is valid, and whether the running daemon uses it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::finding::Finding;
use crate::api::Status;
use crate::clock::millis;
use crate::config::{Config, ConfigError, DEFAULT_FILE};
use crate::config_file::{find_config_file, load_config};

/// The configuration as the daemon would read it.
pub(super) struct LoadedConfig {
    file: Option<PathBuf>,
    /// `None` if it is not valid.
    pub(super) config: Option<Config>,
    error: Option<ConfigError>,
    /// Environment variables that override the file.
    variables: Vec<String>,
}

pub(super) fn read_config(named: Option<&Path>) -> LoadedConfig {
    let file = find_config_file(named);
    let (config, error) = match load_config(file.as_deref()) {
        Ok(config) => (Some(config), None),
        Err(error) => (None, Some(error)),
    };
    LoadedConfig { file, config, error, variables: list_variables() }
}

/// Names of the variables that set keys. Their values may be secret.
fn list_variables() -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut names: Vec<String> =
        names.filter(|name| name.starts_with("FIELDSYNC_") && name.contains("__")).collect();
    names.sort_unstable();
    names
}

pub(super) fn judge_config(loaded: &LoadedConfig, status: Option<&Status>) -> Vec<Finding> {
    if let Some(error) = &loaded.error {
        return judge_error(error, &loaded.variables);
    }
    let Some(config) = &loaded.config else { return Vec::new() };
    let name = loaded.file_name();
    let mut findings = vec![describe_valid(&name, loaded)];
    if config.server.url.is_empty() {
        findings.push(Finding::problem(
            "server.url is empty: records are kept, and nothing is sent",
            format!("set server.url in {name}, then: systemctl reload fieldsync"),
        ));
    }
    if let Some(status) = status {
        findings.extend(find_stale_limits(&name, config, status));
        findings.extend(judge_age(loaded.modified_at(), &name, status));
    }
    findings
}

impl LoadedConfig {
    fn file_name(&self) -> String {
        self.file.as_deref().unwrap_or(Path::new(DEFAULT_FILE)).display().to_string()
    }

    fn modified_at(&self) -> Option<u64> {
        let modified = fs::metadata(self.file.as_deref()?).ok()?.modified().ok()?;
        modified.duration_since(UNIX_EPOCH).ok().map(millis)
    }
}

fn describe_valid(name: &str, loaded: &LoadedConfig) -> Finding {
    let file = match &loaded.file {
        Some(_) => format!("{name} is valid"),
        None => format!("there is no {name}: the defaults apply"),
    };
    match loaded.variables.join(", ") {
        none if none.is_empty() => Finding::ok(file),
        names => Finding::ok(format!("{file}; environment variables override it: {names}")),
    }
}

fn judge_error(error: &ConfigError, variables: &[String]) -> Vec<Finding> {
    let effect = "the daemon does not start with it, or keeps the configuration that it has";
    match error {
        ConfigError::Read { path, source } if source.kind() == ErrorKind::PermissionDenied => {
            vec![Finding::unchecked(format!("you may not read {}", path.display()), "sudo fieldsync doctor")]
        }
        ConfigError::Read { .. } => vec![Finding::problem(
            format!("{error}: {effect}"),
            "put the configuration there, or name the file that fieldsyncd is started with: --config FILE",
        )],
        ConfigError::File { path, .. } => {
            let path = path.display();
            vec![Finding::problem(
                format!("{error}\n{effect}"),
                format!("edit {path}, then: fieldsyncd --config {path} --check-config"),
            )]
        }
        ConfigError::Variable { name, .. } => vec![Finding::problem(
            format!("{error}: {effect}"),
            format!("correct or unset {name}; in the service: systemctl edit fieldsync"),
        )],
        ConfigError::Values { origin, invalid } => invalid
            .iter()
            .map(|invalid| {
                let variable = format!("FIELDSYNC_{}", invalid.key.replace('.', "__").to_uppercase());
                if variables.contains(&variable) {
                    Finding::problem(
                        format!("{variable}: {invalid}: {effect}"),
                        format!("correct or unset {variable}; in the service: systemctl edit fieldsync"),
                    )
                } else {
                    Finding::problem(
                        format!("{origin}: {invalid}: {effect}"),
                        format!("change {} in {origin}, then: systemctl reload fieldsync", invalid.key),
                    )
                }
            })
            .collect(),
    }
}

/// Compares the limits in the daemon's status with the file.
fn find_stale_limits(name: &str, config: &Config, status: &Status) -> Option<Finding> {
    // An older daemon does not report this limit.
    let is_reported = status.queue.max_records > 0;
    let stale: Vec<&str> = [
        ("queue.max_records", is_reported && status.queue.max_records != config.queue.max_records),
        ("queue.max_bytes", status.queue.max_bytes != config.queue.max_bytes.0),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
    .collect();
    let keys = stale.join(" and ");
    (!keys.is_empty()).then(|| {
        Finding::warning(
            format!("the running daemon has another {keys} than {name}: it has not read the file again, or it uses another file"),
            "systemctl reload fieldsync",
        )
    })
}

/// Whether the file was read again since it was changed is not known.
fn judge_age(modified_at: Option<u64>, name: &str, status: &Status) -> Option<Finding> {
    modified_at.filter(|modified| *modified > status.started_at).map(|_| Finding {
        remedy: Some("unless it was reloaded since: systemctl reload fieldsync".to_owned()),
        ..Finding::ok(format!("{name} is newer than the running daemon"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::CheckResult;
    use super::*;
    use crate::api::{Counts, Phase};
    use crate::cli::testing::sample_status;

    fn running_status(started_at: u64, config: &Config) -> Status {
        let mut status = sample_status(Phase::Idle, "", Counts::default());
        status.started_at = started_at;
        status.queue.max_records = config.queue.max_records;
        status.queue.max_bytes = config.queue.max_bytes.0;
        status
    }

    #[test]
    fn limits_that_the_daemon_does_not_use_yet_are_reported() {
        let config = Config::default();
        let mut status = running_status(1000, &config);
        assert_eq!(find_stale_limits("file", &config, &status), None);
        status.queue.max_bytes += 1;
        let finding = find_stale_limits("file", &config, &status).unwrap();
        assert_eq!(finding.result, CheckResult::Warning);
        assert!(finding.text.contains("another queue.max_bytes than file"), "{finding:?}");
        status.queue.max_records = 0;
        let finding = find_stale_limits("file", &config, &status).unwrap();
        assert!(!finding.text.contains("max_records"), "an older daemon reports none: {finding:?}");
        assert_eq!(judge_age(Some(999), "file", &status), None);
        assert_eq!(judge_age(Some(1001), "file", &status).unwrap().result, CheckResult::Ok);
    }
}
