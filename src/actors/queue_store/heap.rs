//! Returns memory to the system when the store rests. A large request leaves tens of megabytes of free pieces in the
//! heap, which the allocator of glibc keeps otherwise until the process ends.

/// To be called when nothing is under way: it takes milliseconds for a large heap.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "a function of the C library that the standard library does not wrap")]
pub(super) fn release_unused_memory() {
    // SAFETY: it has no preconditions, and locks each part of the heap that it trims.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators return memory by themselves.
#[cfg(not(target_env = "gnu"))]
pub(super) fn release_unused_memory() {}
