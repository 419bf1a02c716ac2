//! Keeps the memory of the process small.

use nix::sys::prctl::set_thp_disable;

/// Where the system gives huge pages to everyone, many small buffers of many threads use a small part of each. To be called
/// before there are other threads.
pub(super) fn refuse_huge_pages() {
    if let Err(error) = set_thp_disable(true) {
        tracing::info!(%error, "huge pages cannot be refused: this gateway uses more memory than it needs");
    }
}
