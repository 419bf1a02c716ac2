//! The program of a package: the command line of fieldsync, or the daemon if it is started as `fieldsyncd`, which is a
//! link to it. The two have half of their code in common. All of it is in the library, where tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    if fieldsync::daemon::is_named(std::env::args_os().next().as_deref()) {
        fieldsync::daemon::main()
    } else {
        fieldsync::cli::main()
    }
}
