//! The local API from outside: its shapes, its error responses, and callers that misbehave.

mod access;
mod adding;
mod bad_callers;
mod changes;
mod discards;
mod document;
mod events;
mod half_closed;
mod intake;
mod limits;
mod lookup;
mod metrics;
mod nameless_group;
mod own_records;
mod patience;
mod permissions;
mod readers;
mod review;
mod shapes;
mod shares;
mod status;
mod submitters;
pub(crate) mod waiting;

use serde_json::Value;

pub(crate) fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}
