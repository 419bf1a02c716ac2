//! Code that device and server share, and every decision of the device: no async, no sockets, no files.
//!
//! | module | content |
//! |---|---|
//! | [`model`] | data types of records, batches and links |
//! | [`protocol`] | the sync protocol between device and server |
//! | [`api`] | the local API of the daemon, as types |
//! | [`config`] | the configuration, its checks and its text |
//! | [`policy`] | every decision, without I/O, clock or randomness source |
//! | [`clock`] | the only place that reads a clock |
//! | [`exit`] | exit codes of the programs |
//! | [`causes`], [`hidden`] | errors with their causes, and text from others made safe to show |
//! | `stderr_log` | log lines on standard error, behind a feature |

pub mod api;
pub mod causes;
pub mod clock;
pub mod config;
pub mod exit;
pub mod hidden;
pub mod model;
pub mod policy;
pub mod protocol;
#[cfg(feature = "stderr-log")]
pub mod stderr_log;
