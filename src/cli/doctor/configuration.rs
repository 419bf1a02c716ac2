//! Whether the configuration is valid, and whether the running daemon uses it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::finding::Finding;
use crate::api::{Configuration, ConfigurationValue, Status};
use crate::cli::format::count;
use crate::clock::millis;
use crate::config::{Config, ConfigError, ConfigMistake, ConfigSource, MASK, VARIABLE_SOURCE_PREFIX};
use crate::config_file::ConfigLocation;

/// The configuration as the daemon would read it.
pub(super) struct LoadedConfig {
    location: ConfigLocation,
    files: Vec<PathBuf>,
    /// `None` if it is not valid.
    pub(super) config: Option<Config>,
    error: Option<ConfigError>,
    /// Environment variables that override the files.
    variables: Vec<String>,
}

pub(super) fn read_config(named: Option<&Path>) -> LoadedConfig {
    let location = ConfigLocation::new(named);
    let files = location.files().unwrap_or_default();
    let (config, error, variables) = match location.load() {
        Ok(loaded) => (Some(loaded.config), None, loaded.sources.variables().map(str::to_owned).collect()),
        Err(error) => (None, Some(error), Vec::new()),
    };
    LoadedConfig { location, files, config, error, variables }
}

/// `in_effect` is what the daemon uses, if it says so.
pub(super) fn judge_config(
    loaded: &LoadedConfig,
    status: Option<&Status>,
    in_effect: Option<&Configuration>,
) -> Vec<Finding> {
    let name = loaded.location.path().display().to_string();
    if let Some(error) = &loaded.error {
        return judge_error(error, &name, status.is_some() || in_effect.is_some());
    }
    let Some(config) = &loaded.config else { return Vec::new() };
    let mut findings = vec![describe_valid(&name, loaded, in_effect)];
    findings.extend(in_effect.and_then(|in_effect| judge_refusal(in_effect, &name)));
    findings.extend(in_effect.into_iter().flat_map(find_masked));
    let url = in_effect.and_then(Configuration::to_config).map(|config| config.server.url);
    if url.as_ref().unwrap_or(&config.server.url).is_empty() {
        findings.push(Finding::problem(
            "server.url is empty: records are kept, and nothing is sent",
            format!("sudo fieldsync setup --url https://… (or set server.url in {name}, then: systemctl reload fieldsync)"),
        ));
    }
    if let Some(status) = status {
        let stale = match in_effect {
            Some(in_effect) => find_stale_values(&name, loaded, in_effect),
            None => find_stale_limits(&name, config, status),
        };
        let read_at = in_effect.and_then(|in_effect| in_effect.read_at);
        findings.extend(stale.or_else(|| judge_age(loaded.newest_file(), read_at, status)));
    }
    findings
}

/// Keys that should name a file, and may have its content instead.
fn find_masked(in_effect: &Configuration) -> impl Iterator<Item = Finding> {
    in_effect.values.iter().filter(|value| value.value == MASK).map(|value| {
        Finding::warning(
            format!("{} ({}) is not the whole path of a file", value.key, value.source),
            "write the path from /; a token or key belongs into a file of its own, not into the configuration",
        )
    })
}

/// The files are valid now, and the daemon has not read them since.
fn judge_refusal(in_effect: &Configuration, name: &str) -> Option<Finding> {
    let refusal = in_effect.refused.as_ref()?;
    Some(Finding::problem(
        format!("the daemon refused {name} and uses the last good configuration: {}", refusal.message),
        "it is valid now: systemctl reload fieldsync; if a variable of the service is wrong: systemctl edit fieldsync",
    ))
}

impl LoadedConfig {
    /// The newest file, and when it was changed.
    fn newest_file(&self) -> Option<(&Path, u64)> {
        let modified = |file: &PathBuf| fs::metadata(file).ok()?.modified().ok();
        let dated = self.files.iter().filter_map(|file| Some((file.as_path(), modified(file)?)));
        let (file, newest) = dated.max_by_key(|(_, modified)| *modified)?;
        Some((file, millis(newest.duration_since(UNIX_EPOCH).ok()?)))
    }
}

fn describe_valid(name: &str, loaded: &LoadedConfig, in_effect: Option<&Configuration>) -> Finding {
    let files = match loaded.files.len() {
        0 => format!("there is no {name}: the defaults apply"),
        1 => format!("{name} is valid"),
        files => format!("{name} is valid ({} in all)", count(files as u64, "file")),
    };
    let of_daemon = in_effect.map(|in_effect| in_effect.variables().join(", "));
    match of_daemon.unwrap_or_else(|| loaded.variables.join(", ")) {
        none if none.is_empty() => Finding::ok(files),
        names => Finding::ok(format!("{files}; environment variables override it: {names}")),
    }
}

fn judge_error(error: &ConfigError, name: &str, is_running: bool) -> Vec<Finding> {
    match error {
        ConfigError::Read { path, source } if source.kind() == ErrorKind::PermissionDenied => {
            vec![Finding::unchecked(format!("you may not read {}", path.display()), "sudo fieldsync doctor")]
        }
        ConfigError::Read { .. } => vec![Finding::problem(
            format!("{error}: {}", if is_running { UNREADABLE_EFFECT } else { "the daemon does not start" }),
            "put the configuration there, or name the file that fieldsyncd is started with: --config FILE",
        )],
        ConfigError::Mistakes(mistakes) => {
            mistakes.iter().map(|mistake| judge_mistake(mistake, name, is_running)).collect()
        }
    }
}

const UNREADABLE_EFFECT: &str =
    "the daemon keeps the configuration that it has, and does not start again without this file";
/// Of a running daemon. It starts with that configuration, too.
const MISTAKE_EFFECT: &str = "the last good configuration stays in use";
const MISTAKE_EFFECT_STOPPED: &str =
    "the daemon starts with the last good configuration; if it never had one, it does not start";

fn judge_mistake(mistake: &ConfigMistake, name: &str, is_running: bool) -> Finding {
    let apply = format!("fieldsyncd --config {name} --check-config && systemctl reload fieldsync");
    let remedy = match (&mistake.source, &mistake.key) {
        (ConfigSource::Variable(variable), _) => {
            format!("correct or unset {variable}; in the service: systemctl edit fieldsync")
        }
        (ConfigSource::File { path, .. }, Some(key)) if mistake.column.is_none() => {
            format!("change {key} in {}, then: systemctl reload fieldsync", path.display())
        }
        (ConfigSource::File { path, .. }, _) => {
            format!("edit {}, then: {apply}", path.display())
        }
        (ConfigSource::Default, _) => format!("correct {name}, then: {apply}"),
    };
    let effect = if is_running { MISTAKE_EFFECT } else { MISTAKE_EFFECT_STOPPED };
    Finding::problem(format!("{mistake}\n{effect}"), remedy)
}

/// Compares what the daemon uses with the files, except for keys that variables set.
fn find_stale_values(name: &str, loaded: &LoadedConfig, in_effect: &Configuration) -> Option<Finding> {
    let in_files = loaded.config.as_ref()?.values();
    let own_variable = |key: &str| format!("FIELDSYNC_{}", key.replace('.', "__").to_uppercase());
    let differs = |value: &&ConfigurationValue| {
        let file_value = in_files.iter().find(|(key, _)| *key == value.key);
        file_value.is_some_and(|(key, in_file)| {
            *in_file != value.value
                && !value.source.starts_with(VARIABLE_SOURCE_PREFIX)
                && !loaded.variables.contains(&own_variable(key))
        })
    };
    let keys: Vec<&str> = in_effect.values.iter().filter(differs).map(|value| value.key.as_str()).collect();
    (!keys.is_empty()).then(|| warn_of_stale(name, &keys))
}

fn warn_of_stale(name: &str, keys: &[&str]) -> Finding {
    let keys = keys.join(" and ");
    Finding::warning(
        format!(
            "the running daemon has another {keys} than {name}: it has not read the file again, or it uses another file"
        ),
        "systemctl reload fieldsync; some keys need: systemctl restart fieldsync",
    )
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
    (!stale.is_empty()).then(|| warn_of_stale(name, &stale))
}

/// A file that the daemon has not read since it was changed, although it has no other value. An older daemon does not say
/// when it read its files.
fn judge_age(newest: Option<(&Path, u64)>, read_at: Option<u64>, status: &Status) -> Option<Finding> {
    let (file, modified_at) = newest?;
    let file = file.display();
    let text = match read_at {
        Some(read_at) if modified_at > read_at => {
            format!("{file} was changed after the running daemon read it, and says the same")
        }
        None if modified_at > status.started_at => format!("{file} is newer than the running daemon"),
        _ => return None,
    };
    Some(Finding::ok(text))
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
        let age = |modified_at, read_at| judge_age(Some((Path::new("file"), modified_at)), read_at, &status);
        assert_eq!(age(999, None), None);
        assert_eq!(age(1001, None), Some(Finding::ok("file is newer than the running daemon")));
        assert_eq!(age(1001, Some(2000)), None, "it was read since");
        assert!(age(2001, Some(2000)).is_some_and(|finding| finding.remedy.is_none()));
    }
}
