//! Gateways that share a ledger in PostgreSQL. They need its server: `.ci/run` shows how to run them.

mod clocks;
mod conformance;
mod destination;
mod devices;
mod failover;
mod fleet;
mod forwarding;
mod migration;
mod outages;
mod pgbouncer;
mod shared;
mod start;
mod suite;
