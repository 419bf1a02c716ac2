//! One manual page: what clap knows of a command, and the notes that go with it.

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::notes::{self, Note};

const MANUAL: &str = "fieldsync";
const SOURCE: &str = concat!("fieldsync ", env!("CARGO_PKG_VERSION"));

/// What a help text ends with, and a page has as sections of their own.
const SECTIONS: [&str; 3] = ["Examples:", "Exit codes:", "Environment:"];

/// A file of the manual.
pub(super) struct Page {
    pub(super) file: String,
    pub(super) text: Vec<u8>,
}

impl Page {
    /// Of a command that was built.
    pub(super) fn of(command: &Command, section: &str) -> Self {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
        let mut page = Self::begun(&name, section);
        let man = Man::new(command.clone()).section(section);
        page.append(|text| man.render_name_section(text));
        page.append(|text| man.render_synopsis_section(text));
        page.append(|text| man.render_description_section(text));
        if let Some(more) = command.get_after_long_help().or_else(|| command.get_after_help()) {
            page.paragraphs(&more.to_string());
        }
        page.append(|text| man.render_options_section(text));
        if command.has_subcommands() {
            page.append(|text| man.render_subcommands_section(text));
        }
        for note in notes::of(&name) {
            page.note(&note);
        }
        page
    }

    /// With its title alone.
    pub(super) fn begun(name: &str, section: &str) -> Self {
        let mut page = Self { file: format!("{name}.{section}"), text: Vec::new() };
        let mut title = Roff::new();
        title.control("TH", [name, section, "", SOURCE, MANUAL]);
        page.append(|text| title.to_writer(text));
        page
    }

    pub(super) fn push(&mut self, roff: &Roff) {
        // The preamble is there already.
        self.text.extend_from_slice(roff.to_roff().as_bytes());
    }

    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) {
        // Writing to memory does not fail.
        write(&mut self.text).ok();
    }

    /// Prose, in which lines that begin with a blank stay lines.
    fn paragraphs(&mut self, text: &str) {
        let mut roff = Roff::new();
        let own = |paragraph: &&str| !SECTIONS.iter().any(|section| paragraph.starts_with(section));
        for paragraph in text.split("\n\n").filter(own) {
            roff.control("PP", []);
            let lines: Vec<&str> = paragraph.lines().collect();
            for alike in lines.chunk_by(|one, next| one.starts_with(' ') == next.starts_with(' ')) {
                if alike.iter().any(|line| line.starts_with(' ')) {
                    roff.control("nf", []);
                    for line in alike {
                        roff.text([roman(*line)]);
                    }
                    roff.control("fi", []);
                } else {
                    roff.text([roman(alike.join(" "))]);
                }
            }
        }
        self.push(&roff);
    }

    pub(super) fn note(&mut self, note: &Note) {
        let mut roff = Roff::new();
        match note {
            Note::List { heading, entries } => {
                roff.control("SH", [*heading]);
                for (term, says) in *entries {
                    roff.control("TP", []);
                    roff.text([bold(*term)]);
                    roff.text([roman(*says)]);
                }
            }
            Note::Examples(examples) => {
                roff.control("SH", ["EXAMPLES"]);
                for (does, command) in *examples {
                    roff.control("PP", []);
                    roff.text([roman(*does)]);
                    roff.control("PP", []);
                    roff.control("RS", ["4"]);
                    roff.control("nf", []);
                    for line in command.lines() {
                        roff.text([roman(line)]);
                    }
                    roff.control("fi", []);
                    roff.control("RE", []);
                }
            }
            Note::SeeAlso(pages) => {
                roff.control("SH", ["SEE ALSO"]);
                for (n, page) in pages.iter().enumerate() {
                    let (name, section) = page.split_once('(').unwrap_or((page, ""));
                    let comma = if n + 1 < pages.len() { "," } else { "" };
                    roff.text([bold(name), roman(format!("({section}{comma}"))]);
                }
            }
        }
        self.push(&roff);
    }
}
