//! The local API: HTTP/1.1 with JSON over a Unix socket, for any language.

pub mod alerts;
mod auth;
mod body;
mod connection;
mod error;
mod events;
mod farewell;
#[cfg(fuzzing)]
pub mod fuzzing;
mod http;
mod metrics;
mod openapi;
mod overview;
mod records;
mod review;
mod routes;
pub mod server;
mod shares;
pub mod state;
pub mod status;
pub mod turns;
pub mod web;
