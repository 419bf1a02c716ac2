//! The transport to the server: connections, their limits and ends, TLS, proxies.

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
