//! Whether the disk of the queue has space, can be written, and holds damaged stores.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{FsType, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, statfs};
use rustix::fs::{StatVfsMountFlags, statvfs};

use super::finding::{Finding, or_ok};
use crate::api::Status;
use crate::cli::format::size;
use crate::config::Config;
use crate::model::DiskState;

/// A disk with fewer free inodes is as good as full.
const FREE_FILES_MIN: u64 = 100;
const DAMAGED_PREFIX: &str = "queue.redb.damaged-";

/// A file system as the system describes it.
#[derive(Clone, Copy, Debug)]
struct DiskInfo {
    free: u64,
    /// `None` if the file system does not count files.
    free_files: Option<u64>,
    is_read_only: bool,
    kind: FsType,
}

/// The space that the store needs.
#[derive(Clone, Copy, Debug)]
struct SpaceNeed {
    /// How much the queue may still grow.
    queue: u64,
    reserve: u64,
}

pub(super) fn check_disk(config: &Config, status: Option<&Status>) -> Vec<Finding> {
    let directory = config.state_dir();
    let mut findings = match read_disk_info(&directory) {
        Ok(disk) => {
            let used = status.map_or(0, |status| status.queue.bytes);
            let need = SpaceNeed {
                queue: config.queue.max_bytes.0.saturating_sub(used),
                reserve: config.queue.disk_reserve.0,
            };
            let findings = judge_disk(&directory, disk, need);
            or_ok(findings, || format!("{} free at {}", size(disk.free), directory.display()))
        }
        Err(error) => vec![Finding::unchecked(
            format!("the disk at {} cannot be examined: {error}", directory.display()),
            "sudo fieldsync doctor",
        )],
    };
    findings.extend(status.and_then(|status| judge_disk_state(status.queue.disk.known()?)));
    findings.extend(find_damaged_stores(&directory));
    findings
}

fn read_disk_info(directory: &Path) -> io::Result<DiskInfo> {
    let existing = nearest_existing(directory);
    let (numbers, system) = (statvfs(&existing)?, statfs(&existing)?);
    Ok(DiskInfo {
        free: numbers.f_bavail.saturating_mul(numbers.f_frsize),
        free_files: (numbers.f_files > 0).then_some(numbers.f_favail),
        is_read_only: numbers.f_flag.contains(StatVfsMountFlags::RDONLY),
        kind: system.filesystem_type(),
    })
}

/// The directory, or the one in which it would be created.
fn nearest_existing(directory: &Path) -> PathBuf {
    let existing = directory.ancestors().find(|path| path.exists());
    existing.unwrap_or(Path::new("/")).to_owned()
}

fn judge_disk(directory: &Path, disk: DiskInfo, need: SpaceNeed) -> Vec<Finding> {
    let at = directory.display();
    let mut findings = Vec::new();
    if disk.is_read_only {
        findings.push(Finding::problem(
            format!("the disk at {at} is mounted read-only: no record can be accepted"),
            "find the reason (dmesg), check the disk, then: sudo mount -o remount,rw MOUNTPOINT",
        ));
    }
    if disk.kind == TMPFS_MAGIC || disk.kind == OVERLAYFS_SUPER_MAGIC {
        let (name, event) = match disk.kind {
            TMPFS_MAGIC => ("in memory (tmpfs)", "when the device loses power"),
            _ => ("on an overlay", "when the container or the image is replaced"),
        };
        findings.push(Finding::warning(
            format!("{at} is {name}: it is lost, with all records, {event}"),
            "set queue.state_dir to a directory on a permanent disk",
        ));
    }
    if disk.free < need.reserve {
        findings.push(Finding::problem(
            format!(
                "only {} are free at {at}, less than queue.disk_reserve ({}): records are refused",
                size(disk.free),
                size(need.reserve)
            ),
            "free space on that disk",
        ));
    } else if disk.free < need.queue.saturating_add(need.reserve) {
        findings.push(Finding::warning(
            format!(
                "{} are free at {at}, and the queue may grow by {}: the disk can be full before the queue is",
                size(disk.free),
                size(need.queue)
            ),
            "free space on that disk, or lower queue.max_bytes",
        ));
    }
    if disk.free_files.is_some_and(|files| files < FREE_FILES_MIN) {
        findings.push(Finding::problem(
            format!("the disk at {at} has almost no inodes left: hardly any file can be created"),
            "remove small files from it; df -i shows which disk it is",
        ));
    }
    findings
}

fn judge_disk_state(disk: DiskState) -> Option<Finding> {
    match disk {
        DiskState::Ok => None,
        DiskState::Full => Some(Finding::problem(
            "the daemon reports a full disk: new records are refused, waiting records are still sent",
            "free space on it; the daemon continues by itself",
        )),
        DiskState::Failing => Some(Finding::problem(
            "the daemon reports errors of the disk: no record is accepted or sent; accepted records are still on it",
            "read the kernel's messages (dmesg), and check the disk",
        )),
    }
}

/// Damaged stores are kept until a person has looked at them.
fn find_damaged_stores(directory: &Path) -> Vec<Finding> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            return vec![Finding::unchecked(
                format!("you may not read {}: it may contain damaged stores", directory.display()),
                "sudo fieldsync doctor",
            )];
        }
        Err(_) => return Vec::new(),
    };
    let mut kept: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(DAMAGED_PREFIX))
        .map(|entry| entry.path())
        .collect();
    kept.sort_unstable();
    let to_finding = |path: PathBuf| {
        let path = path.display();
        Finding::warning(
            format!("a damaged store is kept as {path}"),
            format!(
                "sudo fieldsync store salvage {path} prints the records that can be read; remove the file afterwards"
            ),
        )
    };
    kept.into_iter().map(to_finding).collect()
}

#[cfg(test)]
mod tests {
    use nix::sys::statfs::EXT4_SUPER_MAGIC;

    use super::super::finding::CheckResult;
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_disk_is_judged_by_the_space_that_the_store_needs() {
        let healthy = DiskInfo {
            free: 3000 * MIB,
            free_files: Some(100_000),
            is_read_only: false,
            kind: EXT4_SUPER_MAGIC,
        };
        let need = SpaceNeed { queue: 2048 * MIB, reserve: 8 * MIB };
        for (disk, expected) in [
            (healthy, None),
            (DiskInfo { free_files: None, ..healthy }, None),
            (DiskInfo { free: 2000 * MIB, ..healthy }, Some((CheckResult::Warning, "lower queue.max_bytes"))),
            (DiskInfo { free: 7 * MIB, ..healthy }, Some((CheckResult::Problem, "free space"))),
            (DiskInfo { free_files: Some(3), ..healthy }, Some((CheckResult::Problem, "df -i"))),
            (DiskInfo { is_read_only: true, ..healthy }, Some((CheckResult::Problem, "remount,rw"))),
            (DiskInfo { kind: TMPFS_MAGIC, ..healthy }, Some((CheckResult::Warning, "queue.state_dir"))),
            (
                DiskInfo { kind: OVERLAYFS_SUPER_MAGIC, ..healthy },
                Some((CheckResult::Warning, "queue.state_dir")),
            ),
        ] {
            let findings = judge_disk(Path::new("/state"), disk, need);
            match (findings.as_slice(), expected) {
                ([], None) => {}
                ([finding], Some((result, remedy))) => {
                    assert_eq!(finding.result, result, "{finding:?}");
                    assert!(finding.remedy.as_ref().unwrap().contains(remedy), "{finding:?}");
                }
                other => panic!("{disk:?}: {other:?}"),
            }
        }
    }
}
