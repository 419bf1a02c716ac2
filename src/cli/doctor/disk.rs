//! Whether the disk under the queue has room, keeps what it is given, and was never damaged.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{FsType, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, statfs};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::finding::{Finding, or_well};
use crate::api::Status;
use crate::cli::words::size;
use crate::config::Config;
use crate::model::DiskState;

/// Files that a store needs, and some that others need.
const FEW_FILES: u64 = 100;
const DAMAGED: &str = "queue.redb.damaged-";

/// What the system says of a disk.
#[derive(Clone, Copy, Debug)]
struct Disk {
    free: u64,
    /// None where files are not counted.
    free_files: Option<u64>,
    is_read_only: bool,
    kind: FsType,
}

/// What is to go onto it.
#[derive(Clone, Copy, Debug)]
struct Need {
    /// What the queue may still grow by.
    queue: u64,
    reserve: u64,
}

pub(super) fn check(config: &Config, status: Option<&Status>) -> Vec<Finding> {
    let directory = config.state_dir();
    let mut findings = match look(&directory) {
        Ok(disk) => {
            let used = status.map_or(0, |status| status.queue.bytes);
            let need = Need {
                queue: config.queue.max_bytes.0.saturating_sub(used),
                reserve: config.queue.disk_reserve.0,
            };
            let findings = judge(&directory, disk, need);
            or_well(findings, || format!("{} free at {}", size(disk.free), directory.display()))
        }
        Err(error) => vec![Finding::unchecked(
            format!("the disk at {} cannot be asked: {error}", directory.display()),
            "sudo fieldsync doctor",
        )],
    };
    findings.extend(status.and_then(|status| as_the_daemon_says(status.queue.disk)));
    findings.extend(damaged(&directory));
    findings
}

fn look(directory: &Path) -> nix::Result<Disk> {
    let place = nearest(directory);
    let (numbers, system) = (statvfs(&place)?, statfs(&place)?);
    Ok(Disk {
        free: numbers.blocks_available().saturating_mul(numbers.fragment_size()),
        free_files: (numbers.files() > 0).then(|| numbers.files_available()),
        is_read_only: numbers.flags().contains(FsFlags::ST_RDONLY),
        kind: system.filesystem_type(),
    })
}

/// The directory, or the one that it would be made in.
fn nearest(directory: &Path) -> PathBuf {
    let there = directory.ancestors().find(|path| path.exists());
    there.unwrap_or(Path::new("/")).to_owned()
}

fn judge(directory: &Path, disk: Disk, need: Need) -> Vec<Finding> {
    let at = directory.display();
    let mut findings = Vec::new();
    if disk.is_read_only {
        findings.push(Finding::problem(
            format!("the disk at {at} is mounted read-only: no record can be taken"),
            "see why (dmesg), have the disk checked, then: sudo mount -o remount,rw MOUNTPOINT",
        ));
    }
    if disk.kind == TMPFS_MAGIC || disk.kind == OVERLAYFS_SUPER_MAGIC {
        let (name, loses) = match disk.kind {
            TMPFS_MAGIC => ("in memory (tmpfs)", "with the power"),
            _ => ("on an overlay", "when the container or the image is replaced"),
        };
        findings.push(Finding::warning(
            format!("{at} lies {name}: what is there goes {loses}, and the records with it"),
            "set queue.state_dir to a directory on a disk that stays",
        ));
    }
    if disk.free < need.reserve {
        findings.push(Finding::problem(
            format!(
                "only {} are free at {at}, less than queue.disk_reserve ({}): records are refused",
                size(disk.free),
                size(need.reserve)
            ),
            "make room on that disk",
        ));
    } else if disk.free < need.queue.saturating_add(need.reserve) {
        findings.push(Finding::warning(
            format!(
                "{} are free at {at}, and the queue may grow by {}: the disk would be full before the queue is",
                size(disk.free),
                size(need.queue)
            ),
            "make room on that disk, or lower queue.max_bytes",
        ));
    }
    if disk.free_files.is_some_and(|files| files < FEW_FILES) {
        findings.push(Finding::problem(
            format!("the disk at {at} has hardly a file left to give (inodes)"),
            "remove small files from it: df -i shows which disk it is",
        ));
    }
    findings
}

fn as_the_daemon_says(disk: DiskState) -> Option<Finding> {
    match disk {
        DiskState::Ok => None,
        DiskState::Full => Some(Finding::problem(
            "the daemon finds the disk full: new records are refused, those that wait are sent",
            "make room on it; the daemon goes on by itself",
        )),
        DiskState::Failing => Some(Finding::problem(
            "the disk gives the daemon errors: nothing is taken or sent, what was accepted is kept on it",
            "see what the kernel says (dmesg), and have the disk looked at",
        )),
    }
}

/// Stores that were found damaged are kept until somebody has looked at them.
fn damaged(directory: &Path) -> Vec<Finding> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            return vec![Finding::unchecked(
                format!("{} is closed to you: whether damaged files are kept there", directory.display()),
                "sudo fieldsync doctor",
            )];
        }
        Err(_) => return Vec::new(),
    };
    let mut kept: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(DAMAGED))
        .map(|entry| entry.path())
        .collect();
    kept.sort_unstable();
    let told = |path: PathBuf| {
        let path = path.display();
        Finding::warning(
            format!("a damaged store is kept as {path}"),
            format!(
                "sudo fieldsync store salvage {path} prints what can be read of it; once that is done, remove it"
            ),
        )
    };
    kept.into_iter().map(told).collect()
}

#[cfg(test)]
mod tests {
    use nix::sys::statfs::EXT4_SUPER_MAGIC;

    use super::super::finding::Outcome;
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_disk_is_judged_by_what_is_to_go_onto_it() {
        let well =
            Disk { free: 3000 * MIB, free_files: Some(100_000), is_read_only: false, kind: EXT4_SUPER_MAGIC };
        let need = Need { queue: 2048 * MIB, reserve: 8 * MIB };
        for (disk, expected) in [
            (well, None),
            (Disk { free_files: None, ..well }, None),
            (Disk { free: 2000 * MIB, ..well }, Some((Outcome::Warning, "lower queue.max_bytes"))),
            (Disk { free: 7 * MIB, ..well }, Some((Outcome::Problem, "make room"))),
            (Disk { free_files: Some(3), ..well }, Some((Outcome::Problem, "df -i"))),
            (Disk { is_read_only: true, ..well }, Some((Outcome::Problem, "remount,rw"))),
            (Disk { kind: TMPFS_MAGIC, ..well }, Some((Outcome::Warning, "queue.state_dir"))),
            (Disk { kind: OVERLAYFS_SUPER_MAGIC, ..well }, Some((Outcome::Warning, "queue.state_dir"))),
        ] {
            let findings = judge(Path::new("/state"), disk, need);
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
