//! What the daemon's process uses, according to the kernel.

use std::fs;
use std::ops::Sub;
use std::time::Duration;

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// What a process has used since it started.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    /// What the process wrote to files, and to callers: `wchar`, which does not count batches, because those leave with
    /// `send`. The kernel's count of dirty bytes would not do: it counts whole folios, which are larger than a page
    /// where the file was read before.
    pub(crate) written_bytes: u64,
}

impl Usage {
    pub(crate) fn of_process(pid: u32) -> Self {
        let pid_number = Pid::from_raw(i32::try_from(pid).expect("a process id"));
        let clock = clock_getcpuclockid(pid_number).expect("the process has a clock");
        let cpu = Duration::from(clock.now().expect("the clock runs"));
        Self { cpu, written_bytes: number_after(&read_file(pid, "io"), "wchar:") }
    }
}

impl Usage {
    /// What it wrote to files, if this much went to callers.
    pub(crate) fn bytes_beyond(self, response_bytes: u64) -> f64 {
        self.written_bytes.saturating_sub(response_bytes) as f64
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(before.cpu),
            written_bytes: self.written_bytes - before.written_bytes,
        }
    }
}

/// The resident size of a process.
#[derive(Clone, Copy)]
pub(crate) struct Resident {
    pub(crate) now_kib: u64,
    /// The largest since the start, or since [`Resident::reset_peak`].
    pub(crate) peak_kib: u64,
}

impl Resident {
    pub(crate) fn of_process(pid: u32) -> Self {
        let status = read_file(pid, "status");
        Self { now_kib: number_after(&status, "VmRSS:"), peak_kib: number_after(&status, "VmHWM:") }
    }

    /// Continues with the present size as the largest.
    pub(crate) fn reset_peak(pid: u32) {
        fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("the process belongs to this user");
    }
}

fn read_file(pid: u32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{file}")).expect("the process runs, and belongs to this user")
}

fn number_after(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel counts this");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}
