//! How a failed command reports its error.

use std::error::Error;
use std::io::{self, Write};

use crate::causes::with_causes;
use crate::exit;

/// Prints the error with its causes, and returns the exit code. With [`exit::DONE`], nobody reads the output any more, and
/// nothing is printed.
pub(crate) fn report_failure(error: &dyn Error, code: u8) -> u8 {
    if code != exit::DONE {
        // Without standard error, the error cannot be reported.
        drop(writeln!(io::stderr(), "fieldsync-gateway: {}", with_causes(error)));
    }
    code
}
