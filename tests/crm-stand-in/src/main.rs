//! `fieldsync-crm-stand-in`: plays Zoho CRM or Salesforce for tests.
//!
//! A call passes `zoho` or `salesforce` (authorization, checks of the request), `upsert` (the records) and `call` (faults,
//! time limit, answer). `state` holds what is stored and counted. The program shares no code with the gateway: a
//! misreading of the vendors' documentation must not be repeated on both sides.

mod call;
mod clock;
mod connection;
mod control_routes;
mod faults;
mod form;
mod lifecycle;
mod limits;
mod magic_values;
mod options;
mod salesforce;
mod schema;
mod state;
mod storage;
mod tally;
mod tokens;
mod upsert;
mod zoho;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use lifecycle::run_until_signal;
use options::StandInOptions;

fn main() -> ExitCode {
    match run_until_signal(&StandInOptions::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without standard error, the error cannot be reported.
            drop(writeln!(io::stderr(), "fieldsync-crm-stand-in: {error}"));
            ExitCode::FAILURE
        }
    }
}
