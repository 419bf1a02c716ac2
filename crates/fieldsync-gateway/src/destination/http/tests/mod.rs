//! Tests of the destination as a whole: presets and canned responses, and deliveries to a running server.

mod canned_server;
mod codes_of_zoho;
mod crm_process;
mod deliveries;
mod denials;
mod encoding;
mod faults;
mod mappings;
mod responses;
mod responses_of_others;
mod salesforce;
mod silence;
mod stops_and_limits;
pub(super) mod support;
mod tokens;
