//! `fieldsync-gateway conformance`: the gateway passes it, and it names the faults of other servers.

mod command;
mod documentation;
mod faults;
mod gateways;
mod kit;

pub(crate) use gateways::{require_conformance, require_conformance_at};
