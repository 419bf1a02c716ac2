//! The device: a daemon that stores records durably and sends each of them to a server once, over networks that fail,
//! and its command line.
//!
//! ```text
//!  apps ─unix socket─▶ ipc ──Append──▶ QueueStore ──Backlog──▶ BatchPlanner ◀──Link── Connectivity
//!                       │                  ▲──── Claim, Settle ─────┤
//!                       └─ReadView─▶ QueueReader                    └─Upload─▶ CircuitBreaker ─▶ Uploader ─▶ transport
//!  every actor ──Event──▶ Telemetry ──▶ journal, measurements, events of the local API
//! ```
//!
//! | module | content |
//! |---|---|
//! | [`store`] | the durable queue |
//! | [`link`] | what the system reports about links, power and sleep |
//! | [`transport`] | requests to the server: HTTP, TLS, proxies, credentials |
//! | [`telemetry`] | events, measurements, batch history |
//! | [`actors`] | the actors and their messages |
//! | [`ipc`] | the local API and the page |
//! | [`client`] | a client of the local API |
//! | [`daemon`] | starts, reloads and stops everything |
//! | [`cli`] | the command line, one file for each command |
//! | [`journal`], [`logging`] | ids of log events, and how they get to journald |
//!
//! Data types, protocol, configuration and every decision are in `fieldsync_core`: [`model`], [`protocol`], [`api`],
//! [`config`], [`policy`]. `ARCHITECTURE.md` has the invariants.

pub mod actors;
mod async_fd;
mod boot_id;
pub mod cli;
pub mod client;
mod config_file;
mod config_state;
pub mod daemon;
mod device_name;
mod file_watch;
pub mod ipc;
pub mod journal;
pub mod link;
pub mod logging;
pub mod store;
pub mod telemetry;
pub mod transport;
mod user_name;

pub use fieldsync_core::{api, clock, config, exit, model, policy, protocol};
use fieldsync_core::{causes, hidden};
