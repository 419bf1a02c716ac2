//! Callers with other user ids, as the kernel reports them to the daemon. Needs root.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::thread;

use hyper::Method;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::unistd::{Group, geteuid};

use super::daemon::Daemon;
use super::http::{HttpResponse, exchange, request};
use super::process::{ProgramOutput, run};
use super::wait::DEADLINE;

/// A group that exists on every Debian system.
pub(crate) const GROUP: &str = "daemon";

/// Whether this test can act as several users and a group; prints a note if not.
pub(crate) fn can_play() -> bool {
    if !matches!(Group::from_name(GROUP), Ok(Some(_))) {
        println!("skipped: there is no group {GROUP} on this machine");
        return false;
    }
    can_be_others()
}

pub(crate) fn gid() -> u32 {
    Group::from_name(GROUP).unwrap().unwrap().gid.as_raw()
}

/// Whether this test can act as other users; prints a note if not.
pub(crate) fn can_be_others() -> bool {
    let is_root = geteuid().is_root();
    if !is_root {
        println!("skipped: only root may call as other users");
    }
    is_root
}

/// Lets every user of the machine open the daemon's socket.
pub(crate) fn open_to_all(daemon: &Daemon) {
    fs::set_permissions(daemon.home.path(""), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(daemon.home.socket(), Permissions::from_mode(0o666)).unwrap();
}

/// The identity of a process: user and groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) group: Option<u32>,
}

impl User {
    pub(crate) const ROOT: Self = Self { uid: 0, gid: 0, group: None };

    pub(crate) const fn without_groups(uid: u32) -> Self {
        Self { uid, gid: uid, group: None }
    }

    /// Runs a program that the user may not be able to reach by its path, so it is opened here.
    pub(crate) fn command(self, program: &str) -> Command {
        let file = File::open(program).unwrap();
        fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={}", self.uid)).arg(format!("--regid={}", self.gid));
        match self.group {
            Some(group) => command.arg(format!("--groups={group}")),
            None => command.arg("--clear-groups"),
        };
        // It stays open: the program is executed through it.
        command.arg(format!("/proc/self/fd/{}", file.into_raw_fd()));
        command
    }

    /// Runs `fieldsync` to its end.
    pub(crate) fn call(self, daemon: &Daemon, arguments: &[&str], input: &str) -> ProgramOutput {
        let mut command = self.command(env!("CARGO_BIN_EXE_fieldsync"));
        command.arg("--socket").arg(daemon.home.socket()).args(arguments).current_dir("/");
        run(&mut command, input.as_bytes())
    }

    /// Connects as this user, from a thread with this user id.
    pub(crate) fn connect(self, socket: &Path) -> io::Result<UnixStream> {
        let connecting = || {
            self.take_over_thread()?;
            let stream = UnixStream::connect(socket)?;
            stream.set_read_timeout(Some(DEADLINE))?;
            Ok(stream)
        };
        thread::scope(|scope| scope.spawn(connecting).join().unwrap())
    }

    /// Calls the local API; `None` if the user may not even connect.
    pub(crate) fn try_request(
        self,
        daemon: &Daemon,
        method: Method,
        path: &str,
        body: &str,
    ) -> Option<HttpResponse> {
        let stream = match self.connect(&daemon.home.socket()) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return None,
            stream => stream.unwrap(),
        };
        stream.set_nonblocking(true).unwrap();
        let request =
            request(method, path, "localhost", &[("content-type", "application/json")], body.into());
        exchange(async move { tokio::net::UnixStream::from_std(stream) }, request)
    }

    #[track_caller]
    pub(crate) fn request(self, daemon: &Daemon, method: Method, path: &str, body: &str) -> HttpResponse {
        self.try_request(daemon, method, path, body).expect("a response")
    }

    #[track_caller]
    pub(crate) fn get(self, daemon: &Daemon, path: &str) -> HttpResponse {
        self.request(daemon, Method::GET, path, "")
    }

    #[track_caller]
    pub(crate) fn post(self, daemon: &Daemon, path: &str, body: &str) -> HttpResponse {
        self.request(daemon, Method::POST, path, body)
    }

    /// The C library would change the user of all threads; the system call changes only that of the calling thread.
    #[expect(unsafe_code, reason = "no crate here makes these calls for one thread")]
    fn take_over_thread(self) -> io::Result<()> {
        let group = self.group.unwrap_or_default();
        let groups = usize::from(self.group.is_some());
        let (uid, gid) = (self.uid, self.gid);
        // SAFETY: the kernel reads at most one group from `group`, which outlives the calls; the others take numbers.
        let failed = unsafe {
            libc::syscall(libc::SYS_setgroups, groups, &raw const group) != 0
                || libc::syscall(libc::SYS_setresgid, gid, gid, gid) != 0
                || libc::syscall(libc::SYS_setresuid, uid, uid, uid) != 0
        };
        if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
