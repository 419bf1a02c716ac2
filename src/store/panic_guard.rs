//! Panics of redb over damaged pages: contained where the store is opened and read through, and
//! remembered where they end the process, so that the next start looks for the damage.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

thread_local! {
    static PANICS_EXPECTED: Cell<bool> = const { Cell::new(false) };
    static MARKER_PATH: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// Runs what may panic over damaged bytes; a panic is an error with its message.
pub(super) fn catch_panics<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    let outer = PANICS_EXPECTED.replace(true);
    // What a panic leaves behind is dropped and opened anew.
    let ran = catch_unwind(AssertUnwindSafe(run));
    PANICS_EXPECTED.set(outer);
    ran.map_err(|panic| {
        let message = panic.downcast_ref::<String>().cloned();
        let message = message.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        message.unwrap_or_else(|| "it panicked".into())
    })
}

/// Panics of this thread mean that the store may be damaged: `marker` is made then.
pub(super) fn mark_damage_on_panic(marker: &Path) {
    MARKER_PATH.set(Some(marker.to_owned()));
}

/// For the panic hook of the process: whether this panic is expected, and not to be heard of.
/// When it is not, and it is the store's, the next start is told to look at everything.
pub fn is_panic_expected() -> bool {
    if PANICS_EXPECTED.get() {
        return true;
    }
    MARKER_PATH.with_borrow(|path| {
        if let Some(path) = path {
            write_damage_marker(path);
        }
    });
    false
}

/// Damage was met: the next start looks at everything.
pub(super) fn write_damage_marker(path: &Path) {
    if let Err(error) = std::fs::write(path, []) {
        tracing::error!(%error, "the next start cannot be told to look at the whole store");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        assert_eq!(catch_panics(|| 7), Ok(7));
        let failed: Result<(), String> = catch_panics(|| panic!("page {} is damaged", 3));
        assert_eq!(failed, Err("page 3 is damaged".into()));
        assert!(!is_panic_expected());
    }
}
