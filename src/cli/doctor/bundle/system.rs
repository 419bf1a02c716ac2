//! Versions of the programs and of the system, and the state of the units.

use std::fs;

use serde_json::{Value, json};

use super::part::BundlePart;
use super::redaction::text::TextRedactor;
use super::tool::run_tool;
use crate::cli::logs::UNIT;

const SYSTEMCTL: &str = "systemctl";
const OUTPUT_BYTES_MAX: usize = 256 << 10;
const OS_RELEASE_FILES: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];
const OS_RELEASE_BYTES_MAX: usize = 8 << 10;
/// Properties without command lines and environments, which may contain secrets.
const UNIT_PROPERTIES: &str = "--property=Id,LoadState,ActiveState,SubState,UnitFileState,Result,NRestarts,MainPID,\
    ExecMainCode,ExecMainStatus,ExecMainStartTimestamp,ExecMainExitTimestamp,ActiveEnterTimestamp,StateChangeTimestamp,\
    StatusText,StatusErrno,MemoryCurrent,MemoryPeak,CPUUsageNSec,TasksCurrent,WatchdogUSec,NeedDaemonReload,\
    FragmentPath,DropInPaths,User,Group,Listen";

/// `daemon` is the version of the running daemon.
pub(super) async fn collect_versions(daemon: Option<&str>) -> BundlePart {
    let systemd = run_tool(SYSTEMCTL, &["--version"], OUTPUT_BYTES_MAX).await;
    let systemd = systemd.ok().and_then(|ran| ran.text.lines().next().map(str::to_owned));
    let kernel = nix::sys::utsname::uname().ok();
    let kernel = kernel.map(|name| {
        let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
        json!({"release": text(name.release()), "version": text(name.version()), "machine": text(name.machine())})
    });
    let versions = json!({
        "fieldsync": env!("CARGO_PKG_VERSION"),
        "fieldsyncd": daemon,
        "kernel": kernel,
        "systemd": systemd,
        "os_release": read_os_release(),
    });
    BundlePart::collected(
        "versions.json",
        "versions of fieldsync, kernel, distribution and systemd",
        format!("{versions:#}\n"),
    )
}

pub(super) async fn collect_units(texts: &TextRedactor) -> BundlePart {
    let service = format!("{UNIT}.service");
    let socket = format!("{UNIT}.socket");
    // Not `systemctl status`, which prints command lines.
    let shown = run_tool(SYSTEMCTL, &["show", UNIT_PROPERTIES, &service, &socket], OUTPUT_BYTES_MAX).await;
    let collected = shown.and_then(|shown| match shown.stderr.as_str() {
        _ if shown.is_success => Ok((redact_lines(&shown.text, texts), None)),
        "" => Err("systemctl failed".to_owned()),
        stderr => Err(texts.redact(stderr)),
    });
    BundlePart::new("units.txt", "systemctl show of the units, without command lines", collected)
}

/// Each line is a text of its own.
fn redact_lines(text: &str, texts: &TextRedactor) -> String {
    text.lines().map(|line| texts.redact(line) + "\n").collect()
}

fn read_os_release() -> Value {
    let text = OS_RELEASE_FILES.iter().find_map(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    let text = text.get(..OS_RELEASE_BYTES_MAX).unwrap_or(&text);
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('"').into()));
    Value::Object(pairs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::bundle::redaction::known_secrets::KnownStrings;

    #[test]
    fn a_mask_ends_with_its_line() {
        let texts = TextRedactor::new(&KnownStrings::default()).unwrap();
        let shown = "Id=a\nStatusText=no, and says: sesame\n\nId=b\n";
        assert_eq!(redact_lines(shown, &texts), "Id=a\nStatusText=no, and says: ***\n\nId=b\n");
    }
}
