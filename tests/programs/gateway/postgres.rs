//! Gateways that share a ledger in PostgreSQL. They need its server: `.ci/run` shows how to run them.

mod destination;
mod fleet;
mod forwarding;
mod outages;
mod shared;
mod start;
mod suite;
