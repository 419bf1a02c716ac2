//! Gateways that share a ledger in PostgreSQL. They need its server: `.ci/run` says how they are run.

mod outages;
mod shared;
mod start;
mod suite;
