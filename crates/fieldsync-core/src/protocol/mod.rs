//! The protocol between device and server, as types that both sides share.

pub mod device_status;
pub mod exchange;
pub mod receipt;
pub mod wire;
