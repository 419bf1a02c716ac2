//! A fleet of devices at built gateways, by the load generator of `benches/fleet/`, at small scale.

mod double_application;
#[path = "../../benches/fleet/generator/mod.rs"]
#[allow(dead_code, reason = "the bench uses more of it")]
pub(crate) mod generator;
mod kills;
pub(crate) mod scenarios;
mod storm;
mod wire;
