//! `fieldsync-gateway` over real sockets.

mod batches;
mod faults;
mod forward;
mod health;
mod postgres;
mod process;
mod refusals;
mod tls;
mod tokens;
