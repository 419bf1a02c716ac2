//! How a store is opened.

use std::sync::Arc;

use redb::{Builder, Database};

use super::key_space::KeySpace;

/// redb's default is 1 GiB. The dirty pages of a transaction should stay below half of the cache: redb writes
/// what does not fit twice.
const CACHE_BYTES: usize = 6 << 20;

/// Is called with the progress of a repair, from 0 to 1.
pub type ProgressCallback = Arc<dyn Fn(f64) + Send + Sync>;

/// How a store is opened.
pub(super) struct StoreOptions {
    pub(super) key_space: KeySpace,
    pub(super) progress: ProgressCallback,
}

/// Opens or creates databases with our cache size, and reports the progress of redb's repairs.
pub(super) fn database_builder(progress: &ProgressCallback) -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    let progress = Arc::clone(progress);
    builder.set_repair_callback(move |session| progress(session.progress()));
    builder
}
