//! The local API: HTTP/1.1 with JSON over a Unix socket, for any language.

mod auth;
mod batches;
mod body;
mod connection;
mod control;
mod error;
mod events;
#[cfg(fuzzing)]
pub mod fuzzing;
mod http;
mod lookup;
pub mod metrics;
mod newest;
mod openapi;
mod openapi_examples;
mod overview;
mod records;
mod rejection;
mod review;
mod routes;
pub mod server;
mod shared_stream;
pub mod state;
pub mod status;
pub mod throttle;
mod user_quotas;
mod waiting;
pub mod web;
