//! The command line of fieldsync. All of it is in the library, where tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    fieldsync::cli::main()
}
