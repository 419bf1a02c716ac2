//! Shared by the tests: programs that are started and killed, servers, HTTP exchanges, waiting.

pub(crate) mod chromium;
pub(crate) mod crm_stand_in;
pub(crate) mod daemon;
pub(crate) mod device;
pub(crate) mod document;
pub(crate) mod events;
pub(crate) mod fault_proxy;
pub(crate) mod gateway;
pub(crate) mod http;
pub(crate) mod journald;
pub(crate) mod ledger;
pub(crate) mod loop_disk;
pub(crate) mod netns;
pub(crate) mod notify;
pub(crate) mod ports;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod reply;
pub(crate) mod secrets;
pub(crate) mod server;
pub(crate) mod settings;
pub(crate) mod terminal;
pub(crate) mod user;
pub(crate) mod wait;
pub(crate) mod web;
