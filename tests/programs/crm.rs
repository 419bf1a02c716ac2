//! Records on their way from the command line of a device to a CRM: daemon, gateway and the stand-in for the CRM, all of
//! them built programs. What the CRM refuses is under review with its own words, and everything else is there once.

mod bulk;
mod chain;
mod configuration;
mod details;
mod faults;
mod postgres;
mod records;
mod stops;
mod tokens;
