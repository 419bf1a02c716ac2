//! `fieldsync-gateway` over real sockets.

mod batches;
mod faults;
mod process;
mod refusals;
mod tls;
