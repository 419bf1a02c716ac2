//! A disk whose syncs take longer, as those of the flash in handhelds do: 2 to 5 ms, where the disks of
//! servers take a fifth of one. For all contestants alike: what a program itself defines goes
//! before what the C library has under the same name.
#![allow(unsafe_code, reason = "the C library's functions have no other form")]

use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::libc;

static DELAY_MICROS: AtomicU64 = AtomicU64::new(0);

/// From now on each sync takes so much longer.
pub(crate) fn delay_syncs(by: Duration) {
    DELAY_MICROS.store(by.as_micros().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
}

#[expect(clippy::disallowed_methods, reason = "it is to block, as a disk does")]
fn delay_sync() {
    let micros = DELAY_MICROS.load(Ordering::Relaxed);
    if micros > 0 {
        std::thread::sleep(Duration::from_micros(micros));
    }
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(file: c_int) -> c_int {
    delay_sync();
    // SAFETY: the call takes a number and no memory.
    let done = unsafe { libc::syscall(libc::SYS_fdatasync, file) };
    if done == 0 { 0 } else { -1 }
}

#[unsafe(no_mangle)]
extern "C" fn fsync(file: c_int) -> c_int {
    delay_sync();
    // SAFETY: the call takes a number and no memory.
    let done = unsafe { libc::syscall(libc::SYS_fsync, file) };
    if done == 0 { 0 } else { -1 }
}
