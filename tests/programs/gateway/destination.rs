//! The gateway in front of a CRM: what it answers to devices, and what it keeps.

mod conditions;
mod crashes;
pub(crate) mod crm;
pub(crate) mod responses;
mod crm;
mod mapping_file;
mod responses;
mod sharing;
