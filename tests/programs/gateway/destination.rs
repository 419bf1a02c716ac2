//! The gateway in front of a CRM: what it answers to devices, and what it keeps.

mod conditions;
mod crashes;
pub(crate) mod crm;
mod mapping_file;
pub(crate) mod responses;
