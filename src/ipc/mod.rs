//! The local API: HTTP/1.1 with JSON over a Unix socket, for any language.

pub mod alerts;
mod auth;
mod body;
mod error;
mod events;
mod farewell;
#[cfg(fuzzing)]
pub mod fuzzing;
mod half_close;
mod metrics;
mod openapi;
mod patience;
mod read_ahead;
mod records;
mod review;
mod routes;
pub mod server;
mod shares;
pub mod status;
pub mod turns;
pub mod web;
