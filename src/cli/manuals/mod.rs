//! `fieldsync manuals DIR`: writes the manual pages of the daemon and the command line, for packaging.
//!
//! The options come from the definitions that parse them, and the page of the configuration from the shipped file, so
//! that neither can differ from the program. The rest is in `notes.rs`: examples, files, the meaning of an exit status.

mod configuration;
mod notes;
mod page;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use nix::fcntl::OFlag;

use super::context::CommandContext;
use super::failure::CommandFailure;
use crate::{daemon, exit};
use page::ManualPage;

#[derive(Debug, clap::Args)]
pub(crate) struct ManualsArgs {
    /// Directory to write into; it is created if it does not exist
    directory: PathBuf,
}

/// Sections of the manual: user commands, file formats, administration.
const USER_SECTION: &str = "1";
const FORMAT_SECTION: &str = "5";
const ADMIN_SECTION: &str = "8";

pub(crate) fn run<C: CommandFactory>(
    args: &ManualsArgs,
    context: &mut CommandContext<'_>,
) -> Result<u8, CommandFailure> {
    let directory = &args.directory;
    fs::create_dir_all(directory).map_err(|error| write_failure(directory, &error))?;
    for page in all_pages(C::command()) {
        let path = directory.join(&page.file);
        write_page(&path, &page.text).map_err(|error| write_failure(&path, &error))?;
        context.print_line(path.display().to_string())?;
    }
    Ok(exit::DONE)
}

/// Does not follow a symbolic link in the directory.
fn write_page(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true).custom_flags(OFlag::O_NOFOLLOW.bits());
    options.open(path)?.write_all(text)
}

fn write_failure(path: &Path, error: &io::Error) -> CommandFailure {
    CommandFailure::failed(format!("cannot write {}: {error}.", path.display()))
}

/// All pages.
fn all_pages(command_line: Command) -> Vec<ManualPage> {
    let mut pages = Vec::new();
    // The page of a command replaces its help.
    let mut command_line = command_line.disable_help_subcommand(true);
    command_line.build();
    add_pages(&command_line, &mut pages);
    pages.push(ManualPage::from_command(&build_command(daemon::DaemonOptions::command()), ADMIN_SECTION));
    pages.push(configuration::config_page());
    pages
}

fn build_command(mut command: Command) -> Command {
    command.build();
    command
}

/// Adds a page for a command and for each of its subcommands.
fn add_pages(command: &Command, pages: &mut Vec<ManualPage>) {
    pages.push(ManualPage::from_command(command, USER_SECTION));
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        add_pages(verb, pages);
    }
}

#[cfg(test)]
mod tests {
    use super::super::CommandLine;
    use super::*;

    #[test]
    fn every_note_belongs_to_a_page() {
        let files: Vec<String> =
            all_pages(CommandLine::command()).into_iter().map(|page| page.file).collect();
        for name in notes::PAGES_WITH_NOTES {
            assert!(files.iter().any(|file| file.rsplit_once('.').unwrap().0 == name), "{name}");
        }
    }
}
