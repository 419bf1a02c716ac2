//! Keeps the records of field devices durably, and hands them to a server, once each, over bad networks.

pub mod clock;
pub mod config;
pub mod exit;
pub mod gateway;
pub mod ipc {
    pub mod api;
}
pub mod model;
pub mod transport {
    pub mod wire;
}
pub mod policy {
    pub mod sizing;
}
