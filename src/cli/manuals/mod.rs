//! `fieldsync manuals DIR`: the manual pages of the daemon and the command line, for whoever packages them.
//!
//! What a program takes is written by the definitions that parse it, and the page of the configuration by
//! the shipped file: neither can differ from what runs. By hand is only what those do not say
//! (`notes.rs`): examples, files, what an exit status means.

mod configuration;
mod notes;
mod page;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use nix::fcntl::OFlag;

use super::context::Context;
use super::failure::Failure;
use crate::{daemon, exit};
use page::Page;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory to write into; it is made when it is not there
    directory: PathBuf,
}

/// Sections of the manual: of users, of file formats, of administrators.
const USERS: &str = "1";
const FORMATS: &str = "5";
const ADMINISTRATORS: &str = "8";

pub(crate) fn run<C: CommandFactory>(args: &Args, context: &mut Context<'_>) -> Result<u8, Failure> {
    let directory = &args.directory;
    fs::create_dir_all(directory).map_err(|error| cannot_write(directory, &error))?;
    for page in pages(C::command()) {
        let path = directory.join(&page.file);
        write_page(&path, &page.text).map_err(|error| cannot_write(&path, &error))?;
        context.line(path.display().to_string())?;
    }
    Ok(exit::DONE)
}

/// Never through a link that somebody laid in the directory.
fn write_page(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true).custom_flags(OFlag::O_NOFOLLOW.bits());
    options.open(path)?.write_all(text)
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot write {}: {error}.", path.display()))
}

/// Every page there is.
fn pages(command_line: Command) -> Vec<Page> {
    let mut pages = Vec::new();
    // The help of a verb is its page.
    let mut command_line = command_line.disable_help_subcommand(true);
    command_line.build();
    with_verbs(&command_line, &mut pages);
    pages.push(Page::of(&built(daemon::Options::command()), ADMINISTRATORS));
    pages.push(configuration::page());
    pages
}

fn built(mut command: Command) -> Command {
    command.build();
    command
}

/// A page for a command and for each below it.
fn with_verbs(command: &Command, pages: &mut Vec<Page>) {
    pages.push(Page::of(command, USERS));
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        with_verbs(verb, pages);
    }
}

#[cfg(test)]
mod tests {
    use super::super::CommandLine;
    use super::*;

    #[test]
    fn what_is_written_by_hand_belongs_to_a_page() {
        let files: Vec<String> = pages(CommandLine::command()).into_iter().map(|page| page.file).collect();
        for name in notes::NAMES {
            assert!(files.iter().any(|file| file.rsplit_once('.').unwrap().0 == name), "{name}");
        }
    }
}
