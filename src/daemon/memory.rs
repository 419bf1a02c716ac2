//! Protects the memory of the process, which contains the token and records.
//!
//! It is never written to a core file, and other processes of the same user can neither trace nor read it. The price:
//! `/proc/PID` of the daemon belongs to root, so that only root can read most of it. The daemon itself only reads
//! `/proc/self/fd`, which the kernel allows.

use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, setrlimit};

/// To be called before the process reads a secret.
pub(super) fn protect_memory() {
    let protected = set_dumpable(false).and_then(|()| setrlimit(Resource::RLIMIT_CORE, 0, 0));
    if let Err(error) = protected {
        eprintln!("fieldsyncd: a crash may write the token and records to a core file: {error}");
    }
}
