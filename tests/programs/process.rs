//! The life of the daemon: how it starts, what it is told while it runs, and how it ends.

mod addresses;
mod configuration;
mod effects;
mod keys;
mod reload;
mod signals;
mod socket;
mod systemd;
mod values;
