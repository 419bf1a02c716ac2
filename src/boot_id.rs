//! The id of the boot of this system.

use std::fs;

const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// Differs after each boot; none where the kernel does not tell.
pub(crate) fn read_boot_id() -> Option<String> {
    fs::read_to_string(BOOT_ID_FILE).ok().map(|id| id.trim().to_owned())
}
