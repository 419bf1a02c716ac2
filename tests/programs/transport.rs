//! The way to the server: connections, their limits and their ends, TLS, proxies.

mod addresses;
mod certificates;
mod connections;
mod endings;
mod exemptions;
mod interim;
mod limits;
mod peer;
mod proxies;
mod roots;
mod tls;
