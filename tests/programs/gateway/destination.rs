//! The gateway in front of a CRM: what it answers to devices, and what it keeps.

mod conditions;
mod crashes;
mod crm;
mod responses;
mod sharing;
