//! The local API: HTTP/1.1 with JSON over a Unix socket, for any language.

pub mod alerts;
pub mod api;
mod auth;
pub mod client;
mod error;
pub mod feed;
mod intake;
mod metrics;
mod records;
mod review;
pub mod server;
pub mod status;
pub mod web;
pub mod why;
