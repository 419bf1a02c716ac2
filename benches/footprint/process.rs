//! What the kernel counts for a process.

use std::fs;
use std::path::PathBuf;

/// `O_CLOEXEC` among the flags of a descriptor in `/proc/self/fdinfo`.
const CLOSE_ON_EXEC: u32 = 0o2_000_000;
const STANDARD_STREAMS: usize = 3;

/// A process, by its directory in `/proc`. Figures that only root may read are none for others.
pub(crate) struct Process(PathBuf);

impl Process {
    pub(crate) fn new(pid: u32) -> Self {
        Self(PathBuf::from(format!("/proc/{pid}")))
    }

    /// The resident size.
    pub(crate) fn memory_kib(&self) -> Option<u64> {
        self.status_number("VmRSS:")
    }

    /// The resident size without pages of programs and libraries, which the kernel can drop and read again.
    pub(crate) fn own_memory_kib(&self) -> Option<u64> {
        self.status_number("RssAnon:")
    }

    pub(crate) fn threads(&self) -> Option<u64> {
        self.status_number("Threads:")
    }

    /// Open descriptors, without those that this process passed on.
    pub(crate) fn descriptors(&self) -> Option<u64> {
        let open = fs::read_dir(self.0.join("fd")).ok()?.count();
        u64::try_from(open.checked_sub(count_inherited())?).ok()
    }

    /// How often a thread was woken: each voluntary switch is a wait that ended.
    pub(crate) fn wake_ups(&self) -> Option<u64> {
        let mut sum = 0;
        for task in fs::read_dir(self.0.join("task")).ok()?.flatten() {
            let status = fs::read_to_string(task.path().join("status")).ok()?;
            sum += number_after(&status, "voluntary_ctxt_switches:")?;
        }
        Some(sum)
    }

    fn status_number(&self, name: &str) -> Option<u64> {
        number_after(&fs::read_to_string(self.0.join("status")).ok()?, name)
    }
}

fn number_after(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Descriptors of this process that its children inherit, beyond the standard streams: those of cargo's job server.
fn count_inherited() -> usize {
    let descriptors = fs::read_dir("/proc/self/fdinfo").expect("the kernel lists descriptors");
    let inherited = descriptors.flatten().filter(|descriptor| {
        // The one that reads this directory is gone.
        let Ok(information) = fs::read_to_string(descriptor.path()) else { return false };
        let flags = information.lines().find_map(|line| line.strip_prefix("flags:"));
        flags.is_some_and(|flags| {
            u32::from_str_radix(flags.trim(), 8).is_ok_and(|flags| flags & CLOSE_ON_EXEC == 0)
        })
    });
    inherited.count().saturating_sub(STANDARD_STREAMS)
}
