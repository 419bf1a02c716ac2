//! redb panics over some damaged pages. Such panics are caught while the store is opened or verified. At any other
//! time they end the process, and a marker file makes the next start check the store.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

thread_local! {
    static PANICS_EXPECTED: Cell<bool> = const { Cell::new(false) };
    static MARKER_PATH: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// Runs code that may panic over damaged bytes, and turns a panic into its message.
pub(super) fn catch_panics<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    let outer = PANICS_EXPECTED.replace(true);
    // The caller drops everything that the panic may have left inconsistent.
    let ran = catch_unwind(AssertUnwindSafe(run));
    PANICS_EXPECTED.set(outer);
    ran.map_err(|panic| {
        let message = panic.downcast_ref::<String>().cloned();
        let message = message.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        message.unwrap_or_else(|| "it panicked".into())
    })
}

/// From now on, an unexpected panic of this thread creates the file `marker`: the store may be damaged.
pub(super) fn mark_damage_on_panic(marker: &Path) {
    MARKER_PATH.set(Some(marker.to_owned()));
}

/// For the panic hook of the process: whether this panic is caught and must not be reported. Creates the marker
/// file if it is not and the store may be damaged.
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

/// Creates the marker file: the next start checks the whole store.
pub(super) fn write_damage_marker(path: &Path) {
    if let Err(error) = std::fs::write(path, []) {
        tracing::error!(%error, "the damage marker cannot be written: the next start will not check the whole store");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_message() {
        assert_eq!(catch_panics(|| 7), Ok(7));
        let failed: Result<(), String> = catch_panics(|| panic!("page {} is damaged", 3));
        assert_eq!(failed, Err("page 3 is damaged".into()));
        assert!(!is_panic_expected());
    }
}
