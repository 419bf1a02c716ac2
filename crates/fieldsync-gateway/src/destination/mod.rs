//! Destinations: systems that give a verdict on each record before the device gets its answer.
//!
//! A destination takes checked records in order, and gives each of them a verdict: applied with a receipt,
//! rejected in the destination's own words, or to be tried again. Trouble that no record causes (a wrong
//! module, a missing permission, too many calls) never rejects a record.

mod delivery;
mod http;
mod slot;

#[cfg(test)]
pub(crate) use delivery::collect_verdicts;
pub(crate) use delivery::{
    DESTINATION_BUSY, DESTINATION_STOPPED, DESTINATION_UNCLEAR, Destination, DestinationCondition,
    RecordVerdict, StoppedType, Verdict, is_urgent,
};
pub(crate) use http::{
    CALLS_IN_FLIGHT_MAX, HttpDestination, HttpDestinationError, HttpMapping, LocalTokenBudget, MappingError,
    ReloadCache, SalesforceSettings, TokenBudget, TypeMapping, ZohoSettings, check_zoho_triggers,
    parse_mapping, salesforce_mapping, zoho_mapping,
};
pub(crate) use slot::{DestinationLink, DestinationSlot};
