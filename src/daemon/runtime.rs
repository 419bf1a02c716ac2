//! The asynchronous runtimes: one for the main thread, and one for each actor that blocks on the disk.

use std::time::Duration;

use actix::Arbiter;
use tokio::runtime::{Builder, Runtime};

use super::exit_process;
use crate::exit;

/// How long an idle thread for host name look-ups stays.
const THREAD_KEEP_ALIVE: Duration = Duration::from_secs(2);
const BLOCKING_THREADS_MAX: usize = 2;

/// The main thread's runtime, with sockets and timers.
pub(super) fn build_runtime() -> std::io::Result<Runtime> {
    runtime_builder().enable_io().enable_time().build()
}

/// A runtime with timers only. One with sockets would hold four descriptors, and these actors wait for messages alone.
fn build_storage_runtime() -> std::io::Result<Runtime> {
    runtime_builder().enable_time().build()
}

fn runtime_builder() -> Builder {
    let mut builder = Builder::new_current_thread();
    builder.max_blocking_threads(BLOCKING_THREADS_MAX).thread_keep_alive(THREAD_KEEP_ALIVE);
    builder
}

/// Starts a thread for an actor that blocks on the disk.
pub(super) fn start_thread(name: &'static str) -> Arbiter {
    Arbiter::with_tokio_rt(move || match build_storage_runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the {name}'s thread cannot be started");
            exit_process(exit::FAILED);
        }
    })
}
