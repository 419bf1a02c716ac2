//! Checks that the files are on a real disk, and syncs it before a measurement.

use std::fs::File;
use std::path::Path;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::syncfs;

/// In memory a sync costs nothing, and all ratios would differ.
pub(crate) fn require_real_disk(dir: &Path) {
    std::fs::create_dir_all(dir).expect("the directory can be made");
    let kind = statfs(dir).expect("the file system tells what it is").filesystem_type();
    if kind == TMPFS_MAGIC {
        eprintln!("{} is in memory: name a directory on a disk with --dir", dir.display());
        std::process::exit(2);
    }
}

/// Unwritten data of one contestant must not slow down the next.
pub(crate) fn sync_disk(dir: &Path) {
    let dir = File::open(dir).expect("the directory opens");
    syncfs(&dir).expect("the file system syncs");
}

/// Removes a file from the page cache, as after a power cut.
pub(crate) fn drop_page_cache(file: &Path) {
    let file = File::open(file).expect("the file opens");
    file.sync_all().expect("the file syncs");
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).expect("the advice is taken");
}
