//! The application in the manual of each client works as it is printed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::adapter::{Language, clients, compile_c};
use crate::support::daemon::{Counts, Daemon, leave_surroundings};
use crate::support::gateway::Gateway;
use crate::support::process::run;
use crate::support::settings::Settings;
use crate::support::wait::directory;

impl Language {
    fn directory(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::JavaScript => "javascript",
            Self::C => "c",
        }
    }
}

/// The name and the text of the file that a manual prints after `<!-- file: NAME -->`.
fn read_application(language: Language) -> (String, String) {
    let manual = fs::read_to_string(clients().join(language.directory()).join("README.md")).unwrap();
    let (_, rest) = manual.split_once("<!-- file: ").expect("the manual has a file");
    let (name, rest) = rest.split_once(" -->\n").unwrap();
    let (_, rest) = rest.split_once('\n').unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    (name.to_owned(), text.to_owned())
}

/// The command that runs the application, where a user would have installed the client.
fn install(language: Language, directory: &Path) -> Command {
    let (name, text) = read_application(language);
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    match language {
        Language::Python => {
            fs::copy(clients().join("python/fieldsync.py"), directory.join("fieldsync.py")).unwrap();
            let mut command = language.interpreter();
            command.arg(path).args(["account-17", "Größe"]);
            command
        }
        Language::JavaScript => {
            let modules = directory.join("node_modules");
            fs::create_dir(&modules).unwrap();
            symlink(clients().join("javascript"), modules.join("fieldsync")).unwrap();
            let mut command = language.interpreter();
            command.arg(path);
            command
        }
        Language::C => {
            let program = directory.join("app");
            compile_c(&path, &program);
            Command::new(program)
        }
    }
}

fn the_application_in_the_manual_works_as_printed(language: Language) {
    let home = directory();
    let gateway = Gateway::start(home.path(), &[]);
    let daemon = Daemon::start(&Settings::for_server(&gateway.url()));
    let mut command = install(language, home.path());
    leave_surroundings(&mut command);
    let ran = run(command.env("FIELDSYNC_SOCKET", daemon.home.socket()), b"");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(!ran.stdout.is_empty() && ran.stderr.is_empty(), "{ran:?}");
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(1));
    assert_eq!(gateway.applied_ids().len(), 1);
}

for_each_client! {
    the_application_in_the_manual_works_as_printed,
}
