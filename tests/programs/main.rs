//! The built programs, driven from outside.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "what fails here fails its test")]

mod cli;
mod compression;
mod crash;
mod credentials;
mod crm;
mod damage;
mod deferral;
mod delivery;
mod disk;
mod doctor;
mod floors;
mod gateway;
mod in_flight;
mod index;
mod ipc;
mod journal;
mod keys;
mod ladder;
mod lineage;
mod link_lab;
mod manuals;
mod process;
mod responses;
mod situations;
mod sizing;
mod slow_links;
mod support;
mod telemetry;
mod transport;
mod upgrade;
mod web;
mod words;
