//! A process and its descendants, such as PostgreSQL with its sessions: what they use according to the kernel, and how
//! all of them are killed at once.

use std::collections::HashMap;
use std::fs;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};

const END_CHECK_INTERVAL: Duration = Duration::from_millis(2);
const END_CHECKS_MAX: u32 = 5000;
/// In `/proc/PID/stat` after the name of the program, of which utime is the first: the time of the process, in user and
/// kernel mode, and that of its children that ended.
const UTIME_FIELD: usize = 11;
const CPU_FIELDS: usize = 4;

/// The process itself comes first.
pub(crate) fn find_process_tree(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").expect("Linux lists its processes").flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some((pid, parent)) = pid.and_then(|pid| Some((pid, parent_of(pid)?))) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(pid) = tree.get(next) {
        tree.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    tree
}

/// As `kill -9`: returns when all of them are gone, or wait only for their parent to notice.
pub(crate) fn kill_process_tree(root: u32) {
    // The root is stopped first, so that it starts nothing new.
    send_signal(root, Signal::SIGSTOP);
    let tree = find_process_tree(root);
    for pid in &tree {
        send_signal(*pid, Signal::SIGKILL);
    }
    for _ in 0..END_CHECKS_MAX {
        if !tree.iter().any(|pid| is_running(*pid)) {
            return;
        }
        thread::park_timeout(END_CHECK_INTERVAL);
    }
    panic!("the killed processes do not end");
}

/// The processor time of a process and of its children that ended; none for a process that is gone.
pub(crate) fn cpu_time(pid: u32) -> Option<Duration> {
    let fields = stat_fields(pid)?;
    let ticks: u64 = fields
        .get(UTIME_FIELD..UTIME_FIELD + CPU_FIELDS)?
        .iter()
        .flat_map(|ticks| ticks.parse::<u64>())
        .sum();
    let ticks_per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().expect("the kernel counts ticks");
    Some(Duration::from_millis(1000 * ticks / u64::try_from(ticks_per_second).expect("a positive number")))
}

/// The largest resident size of a process, in KiB.
pub(crate) fn peak_memory_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let size = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    size.split_whitespace().next()?.parse().ok()
}

/// A process that is gone needs no signal.
fn send_signal(pid: u32, signal: Signal) {
    let id = Pid::from_raw(i32::try_from(pid).expect("Linux has no larger ids"));
    match kill(id, signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => panic!("process {pid} does not get a signal: {error}"),
    }
}

/// The state and the parent follow the name of the program, which is in parentheses.
fn stat_fields(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

fn parent_of(pid: u32) -> Option<u32> {
    stat_fields(pid)?.get(1)?.parse().ok()
}

fn is_running(pid: u32) -> bool {
    stat_fields(pid).is_some_and(|fields| fields.first().is_none_or(|state| state != "Z" && state != "X"))
}
