//! The lifecycle of the daemon: its start, signals and reloads while it runs, and its end.

mod addresses;
mod configuration;
mod effects;
mod in_effect;
mod keys;
mod layers;
mod one_program;
mod refused;
mod reload;
pub(crate) mod signals;
mod socket;
mod systemd;
mod values;
