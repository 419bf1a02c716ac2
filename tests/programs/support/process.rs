//! Child processes that never outlive their test.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};

use super::wait::wait_for;

/// A child; killed when dropped.
pub(crate) struct Guard(pub(crate) Child);

impl Guard {
    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_for("the process to end", || self.0.try_wait().unwrap())
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // It fails for a process that has ended, which is intended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Sends a signal, without waiting for its effect.
pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("sh").args(["-c", "kill -$0 $1", name, &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// A program that ran to its end.
#[derive(Debug)]
pub(crate) struct ProgramOutput {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A running program whose output is collected.
pub(crate) struct Running {
    pub(crate) child: Guard,
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
}

impl Running {
    /// Starts it with `input` on its standard input.
    pub(crate) fn start(command: &mut Command, input: &[u8]) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
        // The program may end without reading all of it.
        thread::spawn(move || drop(stdin.write_all(&input)));
        let stdout = gather(child.stdout.take().unwrap());
        let stderr = gather(child.stderr.take().unwrap());
        Self { child: Guard(child), stdout, stderr }
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> ProgramOutput {
        let code = self.child.wait().code();
        ProgramOutput { code, stdout: self.stdout.join().unwrap(), stderr: self.stderr.join().unwrap() }
    }
}

fn gather(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> ProgramOutput {
    Running::start(command, input).end()
}
