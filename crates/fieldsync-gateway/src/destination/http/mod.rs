//! A destination that is called over HTTP, as a mapping describes it. Zoho CRM and Salesforce are presets.
//!
//! Records are planned into calls (`plan`), encoded (`encode`), sent (`driver`, `client`), and the responses
//! are decoded into verdicts (`decode`, `results`, `record_error`). `throttle` says when a call may start,
//! `auth` with which token.
//!
//! Only upserts by the record's own id are sent. So a call whose outcome is unknown is sent again as it is,
//! and stores nothing twice.

mod auth;
mod authenticator_cache;
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

pub(crate) use authenticator_cache::AuthenticatorCache;
pub(crate) use driver::HttpDestination;
pub(crate) use endpoint::HttpDestinationError;
pub(crate) use mapping::{CALLS_IN_FLIGHT_MAX, HttpMapping, MappingError};
pub(crate) use mapping_check::parse_mapping;
pub(crate) use presets::{
    SalesforceSettings, ZohoSettings, check_zoho_triggers, salesforce_mapping, zoho_mapping,
};
pub(crate) use token_budget::{LocalTokenBudget, TokenBudget};
pub(crate) use type_mapping::TypeMapping;
