//! A pseudo-terminal of a given size with a program in it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use console::strip_ansi_codes;
use nix::pty::{OpenptyResult, Winsize, openpty};

use super::process::{Guard, run, signal};
use super::wait::wait_for;

/// Names the pager of the command line.
pub(crate) const PAGER_VARIABLE: &str = "FIELDSYNC_PAGER";

/// A program in a terminal; killed when dropped.
pub(crate) struct Terminal {
    child: Guard,
    keyboard: File,
    device: PathBuf,
    /// The output, and whether it is complete.
    written: Arc<Mutex<(Vec<u8>, bool)>>,
}

impl Terminal {
    pub(crate) fn start(mut command: Command, columns: u16) -> Self {
        let size = Winsize { ws_row: 40, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None).unwrap();
        let device = fs::read_link(format!("/proc/self/fd/{}", slave.as_raw_fd())).unwrap();
        command
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave)
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR");
        // A pager may wait for a key.
        if command.get_envs().all(|(name, _)| name != PAGER_VARIABLE) {
            command.env(PAGER_VARIABLE, "");
        }
        let child = Guard(command.spawn().unwrap());
        // The terminal is closed when the program closes its side.
        drop(command);
        let master = File::from(master);
        let keyboard = master.try_clone().unwrap();
        let written = Arc::new(Mutex::new((Vec::new(), false)));
        let gathered = Arc::clone(&written);
        thread::spawn(move || gather(master, &gathered));
        Self { child, keyboard, device, written }
    }

    /// Runs a program to its end. Returns its exit code and its output, without control sequences.
    pub(crate) fn run(command: Command, columns: u16) -> (Option<i32>, String) {
        let (status, text) = Self::start(command, columns).end();
        (status.code(), text)
    }

    fn raw(&self) -> (String, bool) {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        (String::from_utf8_lossy(&written.0).into_owned(), written.1)
    }

    /// The output so far, with control sequences.
    pub(crate) fn written(&self) -> String {
        self.raw().0
    }

    /// Waits until a text was written that was not there `before`.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) {
        wait_for(&format!("{text}: {}", self.written()), || {
            strip_ansi_codes(&self.written()).contains(text).then_some(())
        });
    }

    pub(crate) fn resize(&self, columns: u16) {
        let mut stty = Command::new("stty");
        stty.arg("-F").arg(&self.device).args(["cols", &columns.to_string()]);
        assert_eq!(run(&mut stty, b"").code, Some(0));
    }

    pub(crate) fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.0.id(), name);
    }

    /// The exit code, and the output without control sequences.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let status = self.child.wait();
        let text = wait_for("the end of what is written", || {
            let (text, ends) = self.raw();
            ends.then_some(text)
        });
        (status, strip_ansi_codes(&text).replace("\r\n", "\n"))
    }
}

/// Whether Ctrl-C ended it, as a shell sees it.
pub(crate) fn was_interrupted(status: ExitStatus) -> bool {
    status.signal() == Some(2)
}

fn gather(mut master: File, written: &Mutex<(Vec<u8>, bool)>) {
    let mut buffer = [0; 4096];
    loop {
        // A terminal reports an error when no process has it open any more.
        let read = master.read(&mut buffer).unwrap_or(0);
        let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
        written.0.extend_from_slice(&buffer[..read]);
        if read == 0 {
            written.1 = true;
            return;
        }
    }
}
