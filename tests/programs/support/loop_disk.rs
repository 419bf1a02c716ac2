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
/// Not even the journal of the file system gets to the disk any more.
const NOLOGFLUSH: u32 = 2;

/// The disk, mounted; unmounted when dropped.
pub(crate) struct LoopDisk {
    /// With the image and the mount point.
    directory: TempDir,
}

impl LoopDisk {
    pub(crate) fn new(mib: u64) -> Self {
        let disk = Self { directory: directory() };
        let image = disk.image();
        File::create(&image).unwrap().set_len(mib << 20).unwrap();
        fs::create_dir(disk.root()).unwrap();
        // Nothing is held back for root, whom these tests run as: the last byte counts for everybody.
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
        // The loop device goes with the mount.
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-o", "loop"]).args([self.image(), self.root()]).status().unwrap();
        assert!(mounted.success());
    }

    /// Fails from now on: what was not synced is gone, and whoever writes gets `EIO`.
    #[expect(unsafe_code, reason = "nothing safe makes a file system fail")]
    pub(crate) fn shutdown(&self) {
        let root = File::open(self.root()).unwrap();
        let mut how = NOLOGFLUSH;
        // SAFETY: the request reads a number from where `how` lies, and keeps nothing of it.
        let done = unsafe { libc::ioctl(root.as_raw_fd(), EXT4_IOC_SHUTDOWN, &raw mut how) };
        Errno::result(done).unwrap();
    }

    /// Takes nothing more for as long as this is kept: whoever writes waits.
    pub(crate) fn freeze(&self) -> Frozen {
        let frozen = Command::new("fsfreeze").arg("--freeze").arg(self.root()).status().unwrap();
        assert!(frozen.success());
        Frozen(self.root())
    }

    /// Unmounts it, which needs that nobody uses it, and mounts it again: a disk that failed is well then.
    pub(crate) fn remount(&self) {
        wait_for("the disk to be free", || {
            Command::new("umount").arg(self.root()).status().unwrap().success().then_some(())
        });
        self.mount();
    }

    /// The power goes, for the disk and for the daemon on it, and comes back.
    pub(crate) fn cut_power_and_remount(&self, daemon: Daemon) -> Home {
        self.shutdown();
        let home = daemon.kill9();
        self.remount();
        home
    }

    /// Another program takes all the room there is, but for so many bytes.
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
            // What the file system put aside to be careful is free after that.
            filler.sync_all().unwrap();
        }
        filler.set_len(size.checked_sub(but).unwrap()).unwrap();
        filler.sync_all().unwrap();
    }

    /// The other program gives its room back.
    pub(crate) fn make_room(&self) {
        fs::remove_file(self.filler()).unwrap();
        // The blocks are free when the file system's journal says so.
        File::open(self.root()).unwrap().sync_all().unwrap();
    }
}

/// A disk that does not move; it does again when this is dropped.
pub(crate) struct Frozen(PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        let thawed = Command::new("fsfreeze").arg("--unfreeze").arg(&self.0).status();
        assert!(std::thread::panicking() || thawed.is_ok_and(|status| status.success()));
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let unmount = |how: &[&str]| Command::new("umount").args(how).arg(self.root()).status();
        // What a failed test left behind may still use it: then it goes when they do.
        if !unmount(&["-q"]).is_ok_and(|status| status.success()) {
            drop(unmount(&["-l"]));
        }
    }
}
