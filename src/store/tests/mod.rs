//! Tests the store against a plain model under any schedule of operations, and its promises one by one.

mod audit;
mod bodies;
mod clock;
mod crash_points;
mod damage;
mod disk;
mod disk_bytes;
mod files;
mod full_disk;
mod harness;
mod io_errors;
mod lanes;
mod limits;
mod migration;
mod model;
mod order;
mod power_cuts;
mod random;
mod readers;
mod receipts;
mod review;
mod script;
mod server_receipts;
mod steps;
mod submitters;
pub(super) mod support;
mod unreadable;
