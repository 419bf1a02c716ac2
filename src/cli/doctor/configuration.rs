//! Whether there is a configuration that the daemon would start with, and whether it is in effect.

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
pub(super) struct Configured {
    file: Option<PathBuf>,
    /// None when there is none that is valid.
    pub(super) config: Option<Config>,
    error: Option<ConfigError>,
    /// Variables that win over the file.
    variables: Vec<String>,
}

pub(super) fn read(named: Option<&Path>) -> Configured {
    let file = find_config_file(named);
    let (config, error) = match load_config(file.as_deref()) {
        Ok(config) => (Some(config), None),
        Err(error) => (None, Some(error)),
    };
    Configured { file, config, error, variables: variables() }
}

/// Those of a section, by name: what they hold is nobody's business.
fn variables() -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut names: Vec<String> =
        names.filter(|name| name.starts_with("FIELDSYNC_") && name.contains("__")).collect();
    names.sort_unstable();
    names
}

pub(super) fn judge(configured: &Configured, status: Option<&Status>) -> Vec<Finding> {
    if let Some(error) = &configured.error {
        return refused(error, &configured.variables);
    }
    let Some(config) = &configured.config else { return Vec::new() };
    let name = configured.name();
    let mut findings = vec![valid(&name, configured)];
    if config.server.url.is_empty() {
        findings.push(Finding::problem(
            "server.url is empty: records are kept, and nothing is sent",
            format!("set server.url in {name}, then: systemctl reload fieldsync"),
        ));
    }
    if let Some(status) = status {
        findings.extend(in_effect(&name, config, status));
        findings.extend(changed_since(configured.changed_at(), &name, status));
    }
    findings
}

impl Configured {
    fn name(&self) -> String {
        self.file.as_deref().unwrap_or(Path::new(DEFAULT_FILE)).display().to_string()
    }

    fn changed_at(&self) -> Option<u64> {
        let changed = fs::metadata(self.file.as_deref()?).ok()?.modified().ok()?;
        changed.duration_since(UNIX_EPOCH).ok().map(millis)
    }
}

fn valid(name: &str, configured: &Configured) -> Finding {
    let file = match &configured.file {
        Some(_) => format!("{name} is valid"),
        None => format!("there is no {name}: the defaults hold"),
    };
    match configured.variables.join(", ") {
        none if none.is_empty() => Finding::ok(file),
        names => Finding::ok(format!("{file}; variables of this environment win over it: {names}")),
    }
}

fn refused(error: &ConfigError, variables: &[String]) -> Vec<Finding> {
    let starts = "the daemon does not start with it, or keeps the one it has";
    match error {
        ConfigError::Read { path, source } if source.kind() == ErrorKind::PermissionDenied => {
            vec![Finding::unchecked(
                format!("{} can be read by others only", path.display()),
                "sudo fieldsync doctor",
            )]
        }
        ConfigError::Read { .. } => vec![Finding::problem(
            format!("{error}: {starts}"),
            "put the configuration there, or name the one that fieldsyncd is started with by --config",
        )],
        ConfigError::File { path, .. } => {
            let path = path.display();
            vec![Finding::problem(
                format!("{error}\n{starts}"),
                format!("edit {path}, then: fieldsyncd --config {path} --check-config"),
            )]
        }
        ConfigError::Variable { name, .. } => vec![Finding::problem(
            format!("{error}: {starts}"),
            format!("mend or unset {name}; in the service: systemctl edit fieldsync"),
        )],
        ConfigError::Values { origin, findings } => findings
            .iter()
            .map(|finding| {
                let variable = format!("FIELDSYNC_{}", finding.key.replace('.', "__").to_uppercase());
                if variables.contains(&variable) {
                    Finding::problem(
                        format!("{variable}: {finding}: {starts}"),
                        format!("mend or unset {variable}; in the service: systemctl edit fieldsync"),
                    )
                } else {
                    Finding::problem(
                        format!("{origin}: {finding}: {starts}"),
                        format!("change {} in {origin}, then: systemctl reload fieldsync", finding.key),
                    )
                }
            })
            .collect(),
    }
}

/// By what the daemon tells of its limits.
fn in_effect(name: &str, config: &Config, status: &Status) -> Option<Finding> {
    // A daemon of before tells none.
    let told = status.queue.max_records > 0;
    let others: Vec<&str> = [
        ("queue.max_records", told && status.queue.max_records != config.queue.max_records),
        ("queue.max_bytes", status.queue.max_bytes != config.queue.max_bytes.0),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
    .collect();
    let what = others.join(" and ");
    (!what.is_empty()).then(|| {
        Finding::warning(
            format!("the running daemon has another {what} than {name}: it runs with what it read before, or with another file"),
            "systemctl reload fieldsync",
        )
    })
}

/// Nobody knows whether it was read again since.
fn changed_since(changed_at: Option<u64>, name: &str, status: &Status) -> Option<Finding> {
    changed_at.filter(|changed| *changed > status.started_at).map(|_| Finding {
        remedy: Some("if it was not reloaded since: systemctl reload fieldsync".to_owned()),
        ..Finding::ok(format!("{name} is newer than the running daemon"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Outcome;
    use super::*;
    use crate::api::{Counts, Phase};
    use crate::cli::testing::status;

    fn running(started_at: u64, config: &Config) -> Status {
        let mut status = status(Phase::Idle, "", Counts::default());
        status.started_at = started_at;
        status.queue.max_records = config.queue.max_records;
        status.queue.max_bytes = config.queue.max_bytes.0;
        status
    }

    #[test]
    fn what_the_daemon_has_not_in_effect_is_told_where_it_shows() {
        let config = Config::default();
        let mut status = running(1000, &config);
        assert_eq!(in_effect("file", &config, &status), None);
        status.queue.max_bytes += 1;
        let finding = in_effect("file", &config, &status).unwrap();
        assert_eq!(finding.result, Outcome::Warning);
        assert!(finding.text.contains("another queue.max_bytes than file"), "{finding:?}");
        status.queue.max_records = 0;
        let finding = in_effect("file", &config, &status).unwrap();
        assert!(!finding.text.contains("max_records"), "an older daemon tells none: {finding:?}");
        assert_eq!(changed_since(Some(999), "file", &status), None);
        assert_eq!(changed_since(Some(1001), "file", &status).unwrap().result, Outcome::Ok);
    }
}
