//! Keeps the memory of the process, and with it the token and the records, from ending up elsewhere.
//!
//! It is written to no core file, and other processes of the same user can neither trace nor read it.
//! The price: `/proc/PID` of the daemon belongs to root, so that only root looks into most of it. The daemon
//! itself reads `/proc/self/fd` alone, where the kernel lets every process see its own.

use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, setrlimit};

/// To be called before there is anything to hide.
pub(super) fn close() {
    let closed = set_dumpable(false).and_then(|()| setrlimit(Resource::RLIMIT_CORE, 0, 0));
    if let Err(error) = closed {
        eprintln!("fieldsyncd: a crash may write the token and records to a core file: {error}");
    }
}
