//! `fieldsync-gateway` over real sockets.

mod batches;
mod client_certificates;
mod configuration;
mod destination;
mod device_limit;
mod documentation;
mod drain;
mod faults;
mod forward;
mod health;
mod hints;
mod hostile;
mod keys;
mod lanes;
mod load_shedding;
mod metrics;
mod postgres;
mod process;
mod receiver;
mod refusals;
mod refused;
mod reload;
mod tls;
mod tokens;
mod webhooks;
