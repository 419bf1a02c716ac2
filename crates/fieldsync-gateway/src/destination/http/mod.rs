//! A destination that is called over HTTP, as a mapping describes it. Zoho CRM and Salesforce are presets.
//!
//! A delivery (`driver`) plans records into calls (`plan`) and encodes them (`encode`). Each call is sent until its
//! records have verdicts (`call_run`, `call_parts`, `client`): responses are decoded into them (`decode`, `results`,
//! `record_error`). `throttle` says when a call may start, `auth` with which token, `stops` which types are not taken.
//!
//! Only upserts by the record's own id are sent. So a call whose outcome is unknown is sent again as it is,
//! and stores nothing twice.

mod auth;
mod call_parts;
mod call_run;
mod client;
mod codes;
mod decode;
mod delivery_state;
mod driver;
mod encode;
mod endpoint;
mod mapping;
mod mapping_check;
mod plan;
mod pointer;
mod presets;
mod record_error;
mod reload_cache;
mod results;
mod stops;
mod stored_ids;
mod template;
#[cfg(test)]
mod tests;
mod throttle;
mod token_budget;
mod token_response;
mod type_mapping;

pub(crate) use driver::HttpDestination;
pub(crate) use endpoint::HttpDestinationError;
pub(crate) use mapping::{CALLS_IN_FLIGHT_MAX, HttpMapping, MappingError};
pub(crate) use mapping_check::parse_mapping;
pub(crate) use presets::{
    SalesforceSettings, ZohoSettings, check_zoho_triggers, salesforce_mapping, zoho_mapping,
};
pub(crate) use reload_cache::ReloadCache;
pub(crate) use token_budget::{LocalTokenBudget, TokenBudget};
pub(crate) use type_mapping::TypeMapping;
