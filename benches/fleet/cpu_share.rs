//! Limits a process to a share of a processor, by a control group of the kernel. It needs root.

use std::fs;
use std::path::{Path, PathBuf};

const VERSION_1: &str = "/sys/fs/cgroup/cpu";
const VERSION_2: &str = "/sys/fs/cgroup";
const PERIOD_US: u32 = 20_000;

/// The control group of one process; removed when dropped, after the process has ended.
pub(crate) struct CpuShare(PathBuf);

impl CpuShare {
    /// Limits a process to so many percent of one processor.
    pub(crate) fn limit(pid: u32, percent: u32) -> Self {
        let quota_us = PERIOD_US * percent / 100;
        let is_version_2 = Path::new(VERSION_2).join("cgroup.controllers").exists();
        let parent = Path::new(if is_version_2 { VERSION_2 } else { VERSION_1 });
        let group = parent.join(format!("fieldsync-fleet-{pid}"));
        let write = |path: PathBuf, value: String| {
            fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        };
        if is_version_2 {
            write(parent.join("cgroup.subtree_control"), "+cpu".to_owned());
        }
        fs::create_dir(&group).unwrap_or_else(|error| panic!("{}: {error}", group.display()));
        if is_version_2 {
            write(group.join("cpu.max"), format!("{quota_us} {PERIOD_US}"));
        } else {
            write(group.join("cpu.cfs_period_us"), PERIOD_US.to_string());
            write(group.join("cpu.cfs_quota_us"), quota_us.to_string());
        }
        write(group.join("cgroup.procs"), pid.to_string());
        Self(group)
    }
}

impl Drop for CpuShare {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("{} remains: {error}", self.0.display());
        }
    }
}
