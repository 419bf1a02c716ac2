//! `fieldsync-gateway` over real sockets.

mod batches;
mod configuration;
mod destination;
mod device_limit;
mod documentation;
mod faults;
mod forward;
mod health;
mod postgres;
mod process;
mod refusals;
mod reload;
mod tls;
mod tokens;
