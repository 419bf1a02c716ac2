//! Makes syncs take longer, as on the flash of handhelds: 2 to 5 ms, five times as long as on the disks of servers.
//! Applies to all contestants alike: functions defined in the program replace those of the C library.
#![allow(unsafe_code, reason = "the C library's functions have no other form")]

use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::libc;

static DELAY_MICROS: AtomicU64 = AtomicU64::new(0);

/// Makes each sync take this much longer from now on.
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
