//! `fieldsync-gateway` over real sockets.

mod admin_page;
mod batches;
mod configuration;
mod destination;
mod device_limit;
mod devices;
mod documentation;
mod faults;
mod forward;
mod health;
mod keys;
mod lanes;
mod ledger_upgrade;
mod metrics;
mod postgres;
mod process;
mod receiver;
mod refusals;
mod refused;
mod reload;
mod retention;
mod tls;
mod tokens;
mod webhooks;
