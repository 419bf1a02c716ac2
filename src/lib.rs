//! Keeps the records of field devices durably, and hands them to a server, once each, over bad networks.
//!
//! ```text
//!  apps ──unix socket──▶ ipc ──Append──▶ QueueStore ──Backlog──▶ BatchPlanner ◀──Link── Connectivity
//!                                          ▲──────── Claim, Settle ───────┤
//!                                          │                              └─Upload─▶ CircuitBreaker ─Upload─▶ Uploader ─▶ transport
//!  every actor ──Event──▶ Telemetry ──▶ journal, measurements, feed
//! ```
//!
//! | room | what is in it |
//! |---|---|
//! | [`model`] | the nouns |
//! | [`policy`] | every decision, pure |
//! | [`store`] | the durable queue |
//! | [`link`] | what the system knows of the ways out |
//! | [`transport`] | the protocol and what carries it |
//! | [`actors`] | one concern each, and what they say to each other |
//! | [`daemon`] | wiring, start and end |
//! | [`ipc`] | the local API, its client, the feed |
//! | [`cli`] | the command line, a file a verb |
//!
//! `ARCHITECTURE.md` has the invariants.

pub mod actors;
mod async_fd;
pub mod cli;
pub mod client;
mod config_file;
pub mod daemon;
mod file_watch;
pub mod ipc;
pub mod journal;
pub mod link;
pub mod logging;
pub mod store;
pub mod telemetry;
pub mod transport;

pub use fieldsync_core::{api, clock, config, exit, model, policy, protocol};
use fieldsync_core::{causes, hidden};
