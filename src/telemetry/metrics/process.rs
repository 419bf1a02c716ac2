//! What the process uses, as the kernel reports it.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeVal;

const STATUS_FILE: &str = "/proc/self/status";
const DESCRIPTOR_DIRECTORY: &str = "/proc/self/fd";

/// What the process uses. What the kernel does not report is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    pub(super) cpu: Option<Duration>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) open_files: Option<u64>,
    pub(super) open_files_max: Option<u64>,
}

impl ProcessUsage {
    /// As it is now.
    pub fn read() -> Self {
        let status = fs::read_to_string(STATUS_FILE).unwrap_or_default();
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok();
        // One of them is that of the directory itself.
        let open_files = fs::read_dir(DESCRIPTOR_DIRECTORY).ok().map(|open| open.count().saturating_sub(1));
        Self {
            cpu: usage.map(|usage| time_of(usage.user_time()) + time_of(usage.system_time())),
            resident_bytes: find_bytes(&status, "VmRSS:"),
            virtual_bytes: find_bytes(&status, "VmSize:"),
            open_files: open_files.map(|count| count as u64),
            open_files_max: read_open_files_max(),
        }
    }
}

#[allow(clippy::useless_conversion, reason = "it has 32 bits on 32-bit devices")]
fn read_open_files_max() -> Option<u64> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    Some(u64::from(soft))
}

fn time_of(time: TimeVal) -> Duration {
    let microseconds = u64::try_from(time.tv_usec()).unwrap_or_default();
    Duration::from_secs(u64::try_from(time.tv_sec()).unwrap_or_default())
        + Duration::from_micros(microseconds)
}

/// The value of a line such as `VmRSS:  5120 kB`.
fn find_bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_reports_what_this_process_uses() {
        let usage = ProcessUsage::read();
        assert!(usage.resident_bytes > Some(100_000) && usage.virtual_bytes >= usage.resident_bytes);
        assert!(usage.open_files >= Some(3) && usage.open_files_max >= usage.open_files, "{usage:?}");
        assert!(usage.cpu.is_some());
        assert_eq!(find_bytes("VmRSS:\t  5120 kB\n", "VmRSS:"), Some(5120 * 1024));
        assert_eq!(find_bytes("VmRSS:\t  many kB\n", "VmRSS:"), None);
    }
}
