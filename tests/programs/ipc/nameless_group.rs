//! Without `ipc.admin_group`, no group has admins, whatever the system's group database contains.

use std::fs::{self, File, Permissions};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::unistd::geteuid;

use crate::support::daemon::Home;
use crate::support::process::run;
use crate::support::settings::Settings;

const NOT_PERMITTED: Option<i32> = Some(5);
/// A group id that exists on no machine.
const NAMELESS: &str = "54341";

#[test]
fn an_empty_admin_group_matches_no_group_not_even_one_without_a_name() {
    if !geteuid().is_root() {
        println!("skipped: only root may change what groups there are");
        return;
    }
    let home = Home::new(&Settings::default());
    let groups = home.path("groups");
    let known = fs::read_to_string("/etc/group").unwrap();
    fs::write(&groups, format!("{known}:x:{NAMELESS}:\n")).unwrap();
    let daemon = home.command();
    let mut command = Command::new("unshare");
    let script = "mount --bind \"$0\" /etc/group && exec \"$@\"";
    command
        .args(["--mount", "sh", "-c", script])
        .arg(&groups)
        .arg(daemon.get_program())
        .args(daemon.get_args());
    let log = File::options().append(true).open(home.path("log")).unwrap();
    command.stdin(Stdio::null()).stderr(log);
    let daemon = home.start_by(command);
    fs::set_permissions(daemon.home.path(""), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(daemon.home.socket(), Permissions::from_mode(0o666)).unwrap();
    // Opened here, because the user may not be able to reach the program by its path.
    let program = File::open(env!("CARGO_BIN_EXE_fieldsync")).unwrap();
    fcntl(&program, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let mut member = Command::new("setpriv");
    member
        .args(["--reuid=54342", "--regid=54342", &format!("--groups={NAMELESS}")])
        .arg(format!("/proc/self/fd/{}", program.into_raw_fd()))
        .arg("--socket")
        .arg(daemon.home.socket())
        .arg("pause")
        .current_dir("/");
    let ran = run(&mut member, b"");
    assert_eq!(ran.code, NOT_PERMITTED, "{ran:?}");
}
