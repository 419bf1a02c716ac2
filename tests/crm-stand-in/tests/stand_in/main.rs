//! The built stand-in, over real sockets: each row of the tables of its README once.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "what fails here fails its test")]

mod faults;
mod limits;
mod report;
mod salesforce_calls;
mod salesforce_records;
mod support;
mod zoho_calls;
mod zoho_records;
