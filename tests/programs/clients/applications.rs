//! The application in the manual of each client works as it is printed, with the commands that are printed.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::adapter::{Language, c_flags, clients};
use crate::support::daemon::leave_surroundings;
use crate::support::gateway;
use crate::support::ports::free_address;
use crate::support::process::run;
use crate::support::wait::directory;

/// Below the deadline for programs: it ends the server and the daemon, too.
const TIMEOUT: &str = "50s";

impl Language {
    fn directory(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::JavaScript => "javascript",
            Self::C => "c",
        }
    }

    /// The interpreter or compiler of the suite, under the name that the manuals print.
    fn shell_function(self) -> String {
        let mut command = self.interpreter();
        if self == Self::C {
            command.args(["-Wpedantic", "-Werror"]).args(c_flags());
        }
        let words = command.get_args().map(|word| format!("'{}'", word.display()));
        let (path, words) = (command.get_program().display(), words.collect::<Vec<_>>().join(" "));
        let name = match self {
            Self::Python => "python3",
            Self::JavaScript => "node",
            Self::C => "cc",
        };
        format!("{name}() {{ command '{path}' {words} \"$@\"; }}\n")
    }
}

/// The block that a manual prints after `<!-- MARKER -->`; the marker may end in a name, which comes first.
fn read_block(manual: &str, marker: &str) -> (String, String) {
    let manual = fs::read_to_string(clients().join(manual)).unwrap();
    let (_, rest) = manual.split_once(&format!("<!-- {marker}")).unwrap_or_else(|| panic!("no {marker}"));
    let (name, rest) = rest.split_once(" -->\n").unwrap();
    let (_, rest) = rest.split_once('\n').unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    (name.to_owned(), text.to_owned())
}

/// Replaces what differs here, and must be printed.
#[track_caller]
fn replace(text: &str, printed: &str, here: &str) -> String {
    assert!(text.contains(printed), "{printed} in {text}");
    text.replace(printed, here)
}

/// The commands that start a server and a daemon for a trial; the programs are built already.
fn trial(home: &Path) -> String {
    let (_, commands) = read_block("README.md", "commands: trial");
    let commands = replace(&commands, "cargo build --locked --workspace --bins\n", "");
    let commands = replace(&commands, "/tmp/fieldsync", home.to_str().unwrap());
    let commands = replace(&commands, "8080", &free_address().port().to_string());
    replace(&commands, "target/debug", gateway::program().parent().unwrap().to_str().unwrap())
}

fn the_application_in_the_manual_works_as_printed(language: Language) {
    let (home, desk) = (directory(), directory());
    let manual = format!("{}/README.md", language.directory());
    let (name, text) = read_block(&manual, "file: ");
    let (_, commands) = read_block(&manual, "commands: app");
    let commands = replace(&commands, "/usr/share/doc/fieldsync/clients", clients().to_str().unwrap());
    fs::write(desk.path().join(name), text).unwrap();
    let script = [
        "trap 'kill $(jobs -p)' EXIT\n",
        &language.shell_function(),
        &trial(home.path()),
        &format!("cd {}\n", desk.path().display()),
        &commands,
    ];
    let mut command = Command::new("timeout");
    command.args([TIMEOUT, "bash", "-euo", "pipefail", "-c", &script.concat()]);
    leave_surroundings(&mut command);
    let ran = run(command.current_dir(env!("CARGO_MANIFEST_DIR")), b"");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("SYNCED"), "{ran:?}");
}

for_each_client! {
    the_application_in_the_manual_works_as_printed,
}
