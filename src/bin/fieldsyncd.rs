//! `fieldsyncd`: the daemon alone, as tests start it. Packages have a link to `fieldsync` instead.

use std::process::ExitCode;

fn main() -> ExitCode {
    fieldsync::daemon::main()
}
