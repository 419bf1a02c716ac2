//! What a process has used, according to the kernel.

use std::fs;
use std::ops::Add;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

/// In `/proc/PID/stat` after the name of the program, of which utime is the first: the time of the process, in user and
/// kernel mode, and that of its children that ended.
const UTIME_FIELD: usize = 11;
const CPU_FIELDS: usize = 4;

/// The sum of two usages has the memory of the larger process, because they ran one after the other.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    /// The largest resident size.
    pub(crate) memory_kib: u64,
    /// What the process wrote to its file system, in pages that reach the disk.
    pub(crate) written_bytes: u64,
}

impl Usage {
    pub(crate) fn of_process(pid: u32) -> Self {
        Self {
            cpu: cpu_of(&read(pid, "stat")),
            memory_kib: number_after(&read(pid, "status"), "VmHWM:"),
            written_bytes: number_after(&read(pid, "io"), "write_bytes:"),
        }
    }
}

impl Add for Usage {
    type Output = Self;

    fn add(self, later: Self) -> Self {
        Self {
            cpu: self.cpu + later.cpu,
            memory_kib: self.memory_kib.max(later.memory_kib),
            written_bytes: self.written_bytes + later.written_bytes,
        }
    }
}

fn read(pid: u32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{file}")).expect("the process runs, and belongs to this user")
}

fn cpu_of(stat: &str) -> Duration {
    let (_, fields) = stat.rsplit_once(')').expect("the name of the program is in parentheses");
    let ticks: u64 = fields
        .split_whitespace()
        .skip(UTIME_FIELD)
        .take(CPU_FIELDS)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum();
    let ticks_per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().expect("the kernel counts ticks");
    Duration::from_secs_f64(ticks as f64 / ticks_per_second as f64)
}

fn number_after(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel counts this");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}
