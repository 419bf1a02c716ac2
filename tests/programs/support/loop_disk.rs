//! A real disk of some MiB: an ext4 image on a loop device. It can be filled up, get stuck, and fail. Needs root.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Command;

use nix::errno::Errno;
use nix::libc;
use tempfile::TempDir;

use super::daemon::{Daemon, Home};
use super::wait::{directory, wait_for};

/// `_IOR('X', 125, __u32)`
const EXT4_IOC_SHUTDOWN: libc::Ioctl = 0x8004_587d;
/// The journal of the file system is not flushed either.
const NOLOGFLUSH: u32 = 2;

/// The mounted disk; unmounted when dropped.
pub(crate) struct LoopDisk {
    /// The directory with the image and the mount point.
    directory: TempDir,
}

impl LoopDisk {
    pub(crate) fn new(mib: u64) -> Self {
        let disk = Self { directory: directory() };
        let image = disk.image();
        File::create(&image).unwrap().set_len(mib << 20).unwrap();
        fs::create_dir(disk.root()).unwrap();
        // No blocks are reserved for root, which runs these tests: the disk is full for all users at the same byte.
        let mut mkfs = Command::new("mkfs.ext4");
        let made = mkfs.args(["-q", "-F", "-b", "4096", "-m", "0"]).arg(&image).status().unwrap();
        assert!(made.success());
        disk.mount();
        disk
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    fn filler(&self) -> PathBuf {
        self.path("filler")
    }

    /// A path on it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    fn mount(&self) {
        // The loop device is removed with the mount.
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-o", "loop"]).args([self.image(), self.root()]).status().unwrap();
        assert!(mounted.success());
    }

    /// The disk fails from now on: unsynced data is lost, and writes fail with `EIO`.
    #[expect(unsafe_code, reason = "nothing safe makes a file system fail")]
    pub(crate) fn shutdown(&self) {
        let root = File::open(self.root()).unwrap();
        let mut how = NOLOGFLUSH;
        // SAFETY: the request reads a number from the address of `how`, and keeps no pointer to it.
        let done = unsafe { libc::ioctl(root.as_raw_fd(), EXT4_IOC_SHUTDOWN, &raw mut how) };
        Errno::result(done).unwrap();
    }

    /// Blocks all writes until the result is dropped.
    pub(crate) fn freeze(&self) -> FrozenDisk {
        let frozen = Command::new("fsfreeze").arg("--freeze").arg(self.root()).status().unwrap();
        assert!(frozen.success());
        FrozenDisk(self.root())
    }

    /// Unmounts it, which requires that no process uses it, and mounts it again: a failed disk works again then.
    pub(crate) fn remount(&self) {
        wait_for("the disk to be free", || {
            Command::new("umount").arg(self.root()).status().unwrap().success().then_some(())
        });
        self.mount();
    }

    /// The power fails, for the disk and for the daemon on it, and returns.
    pub(crate) fn cut_power_and_remount(&self, daemon: Daemon) -> Home {
        self.shutdown();
        let home = daemon.kill9();
        self.remount();
        home
    }

    /// Another program fills the disk, except for this many bytes.
    pub(crate) fn fill(&self, but: u64) {
        let mut filler = File::create(self.filler()).unwrap();
        let mut size = 0;
        for chunk in [1 << 20, 1 << 12] {
            let zeros = vec![0; chunk];
            loop {
                match filler.write(&zeros) {
                    Ok(written) => size += written as u64,
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
            // Blocks that the file system preallocated are free after that.
            filler.sync_all().unwrap();
        }
        filler.set_len(size.checked_sub(but).unwrap()).unwrap();
        filler.sync_all().unwrap();
    }

    /// The other program frees its space.
    pub(crate) fn make_room(&self) {
        fs::remove_file(self.filler()).unwrap();
        // The blocks are free once the file system's journal is committed.
        File::open(self.root()).unwrap().sync_all().unwrap();
    }
}

/// A stuck disk; it works again when this is dropped.
pub(crate) struct FrozenDisk(PathBuf);

impl Drop for FrozenDisk {
    fn drop(&mut self) {
        let thawed = Command::new("fsfreeze").arg("--unfreeze").arg(&self.0).status();
        assert!(std::thread::panicking() || thawed.is_ok_and(|status| status.success()));
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let unmount = |how: &[&str]| Command::new("umount").args(how).arg(self.root()).status();
        // Processes left by a failed test may still use it: then it is removed when they end.
        if !unmount(&["-q"]).is_ok_and(|status| status.success()) {
            drop(unmount(&["-l"]));
        }
    }
}
