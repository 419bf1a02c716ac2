//! The lifecycle of the daemon: its start, signals and reloads while it runs, and its end.

mod addresses;
mod configuration;
mod effects;
mod keys;
mod layers;
mod reload;
mod signals;
mod socket;
mod systemd;
mod values;
