//! The way to the server: connections, their limits and their ends, TLS, proxies.

mod connections;
mod exemptions;
mod interim;
mod limits;
mod peer;
mod proxies;
mod tls;
