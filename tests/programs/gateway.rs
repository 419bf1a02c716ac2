//! `fieldsync-gateway` over real sockets.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "what fails here fails its test")]

mod batches;
mod device;
mod faults;
mod harness;
mod process;
mod refusals;
mod tls;
