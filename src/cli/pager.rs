//! Shows long output in a pager, as systemctl and git do: only on a terminal, and only if the output needs more than a
//! screen, which `less -F` decides.

use std::env;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use nix::unistd::{dup2_stderr, dup2_stdout, geteuid};

/// Variables that name the pager. The first that is set wins; an empty one means none.
const PAGER_VARIABLES: [&str; 2] = ["FIELDSYNC_PAGER", "PAGER"];
/// Quit if all fits on one screen, show colours, leave the text on the screen.
const LESS_OPTIONS: &str = "FRX";

/// A running pager: it reads what this process writes to standard output, and to standard error on the same terminal.
pub(super) struct Pager {
    child: Child,
    terminal_stderr: Option<OwnedFd>,
}

impl Pager {
    /// `None` if there is no pager, or if the terminal cannot move its cursor.
    pub(super) fn start() -> Option<Self> {
        let mut command = pager_command(|name| env::var_os(name))?;
        if geteuid().is_root() {
            // A user who may run this command by sudo must not get a shell from it.
            command.env("LESSSECURE", "1");
        }
        let stderr = io::stderr();
        let terminal_stderr =
            if stderr.is_terminal() { Some(stderr.as_fd().try_clone_to_owned().ok()?) } else { None };
        let mut child = command.stdin(Stdio::piped()).spawn().ok()?;
        let pipe = child.stdin.take()?;
        dup2_stdout(&pipe).ok()?;
        if terminal_stderr.is_some() {
            dup2_stderr(&pipe).ok()?;
        }
        Some(Self { child, terminal_stderr })
    }

    /// Ends the output, and waits until the user has read it. What was written must be flushed before; what the pager
    /// did not take any more is discarded.
    pub(super) fn finish(mut self) {
        if let Ok(nowhere) = OpenOptions::new().write(true).open("/dev/null") {
            dup2_stdout(&nowhere).ok();
        }
        if let Some(stderr) = &self.terminal_stderr {
            dup2_stderr(stderr).ok();
        }
        self.child.wait().ok();
    }
}

fn pager_command(variable: impl Fn(&str) -> Option<OsString>) -> Option<Command> {
    if variable("TERM").is_none_or(|name| name.is_empty() || name == "dumb") {
        return None;
    }
    let Some(chosen) = PAGER_VARIABLES.into_iter().find_map(&variable) else {
        let mut less = Command::new("less");
        less.arg(format!("-{LESS_OPTIONS}"));
        return Some(less);
    };
    if chosen.is_empty() || chosen == "cat" {
        return None;
    }
    // In a shell, as man and git do: it may have arguments.
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(chosen);
    if variable("LESS").is_none() {
        shell.env("LESS", LESS_OPTIONS);
    }
    Some(shell)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command_with(variables: &[(&str, &str)]) -> Option<String> {
        let value =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        let command = pager_command(value)?;
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        Some(words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn the_pager_is_the_first_that_a_variable_names_else_less() {
        let terminal = ("TERM", "xterm");
        assert_eq!(command_with(&[terminal]).as_deref(), Some("less -FRX"));
        let both = [terminal, ("PAGER", "more"), ("FIELDSYNC_PAGER", "bat -p")];
        assert_eq!(command_with(&both).as_deref(), Some("sh -c bat -p"));
        assert_eq!(command_with(&both[..2]).as_deref(), Some("sh -c more"));
        for none in [("FIELDSYNC_PAGER", ""), ("PAGER", "cat"), ("TERM", "dumb")] {
            assert_eq!(command_with(&[none, terminal]), None, "{none:?}");
        }
        assert_eq!(command_with(&[]), None);
    }
}
