//! A disk of its own: a file as a loop device with ext4. Counts all writes that reach it, including the journal of the
//! file system. Nothing else writes to it.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::{NamedTempFile, TempDir};

use crate::disk;

const SECTOR_BYTES: u64 = 512;
/// Fields of `/sys/block/*/stat`.
const SECTORS_WRITTEN_FIELD: usize = 6;
const FLUSHES_FIELD: usize = 15;

pub(crate) struct Device {
    mount: TempDir,
    path: PathBuf,
    _image: NamedTempFile,
}

/// Totals of the device so far.
#[derive(Clone, Copy)]
pub(crate) struct DeviceTotals {
    pub(crate) bytes: u64,
    pub(crate) flushes: u64,
}

impl Device {
    /// The error explains why the device cannot be created.
    pub(crate) fn new(dir: &Path, bytes: u64) -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("a loop device needs root".into());
        }
        let image = NamedTempFile::new_in(dir).and_then(|image| {
            image.as_file().set_len(bytes)?;
            Ok(image)
        });
        let image = image.map_err(|error| format!("the image cannot be created: {error}"))?;
        let mount =
            TempDir::new_in(dir).map_err(|error| format!("the mount point cannot be created: {error}"))?;
        // What mkfs postpones would be counted as ours.
        run_command(
            Command::new("mkfs.ext4")
                .args(["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
                .arg(image.path()),
        )?;
        let path = run_command(Command::new("losetup").args(["--find", "--show"]).arg(image.path()))?.into();
        let device = Self { mount, path, _image: image };
        run_command(
            Command::new("mount")
                .args(["-t", "ext4", "-o", "noatime"])
                .args([&device.path, device.mount_dir()]),
        )?;
        Ok(device)
    }

    pub(crate) fn mount_dir(&self) -> &Path {
        self.mount.path()
    }

    /// The totals after everything written so far has reached the device.
    pub(crate) fn read_totals(&self) -> DeviceTotals {
        disk::sync_disk(self.mount_dir());
        let name = self.path.file_name().expect("a device has a name");
        let stat =
            read_to_string(Path::new("/sys/block").join(name).join("stat")).expect("the device counts");
        let field = |at| stat.split_whitespace().nth(at).and_then(|text| text.parse().ok()).unwrap_or(0);
        DeviceTotals { bytes: field(SECTORS_WRITTEN_FIELD) * SECTOR_BYTES, flushes: field(FLUSHES_FIELD) }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        for command in
            [Command::new("umount").arg(self.mount_dir()), Command::new("losetup").arg("-d").arg(&self.path)]
        {
            if let Err(error) = run_command(command) {
                eprintln!("{error}");
            }
        }
    }
}

fn run_command(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().display().to_string();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().into())
    } else {
        Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}
