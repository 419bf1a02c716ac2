//! One manual page: the definition of a command in clap, and its notes.

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::notes::{self, ManualNote};

const MANUAL_NAME: &str = "fieldsync";
const PROGRAM_VERSION: &str = concat!("fieldsync ", env!("CARGO_PKG_VERSION"));

/// Parts of a help text that are separate sections of a page.
const SECTION_HEADINGS: [&str; 3] = ["Examples:", "Exit codes:", "Environment:"];

/// A file of the manual.
pub(super) struct ManualPage {
    pub(super) file: String,
    pub(super) text: Vec<u8>,
}

impl ManualPage {
    /// The page of a built command.
    pub(super) fn from_command(command: &Command, section: &str) -> Self {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
        let mut page = Self::with_title(&name, section);
        let man = Man::new(command.clone()).section(section);
        page.append_rendered(|text| man.render_name_section(text));
        page.append_rendered(|text| man.render_synopsis_section(text));
        page.append_rendered(|text| man.render_description_section(text));
        if let Some(more) = command.get_after_long_help().or_else(|| command.get_after_help()) {
            page.push_paragraphs(&more.to_string());
        }
        page.append_rendered(|text| man.render_options_section(text));
        if command.has_subcommands() {
            page.append_rendered(|text| man.render_subcommands_section(text));
        }
        for note in notes::notes_of(&name) {
            page.push_note(&note);
        }
        page
    }

    /// A page with only its title.
    pub(super) fn with_title(name: &str, section: &str) -> Self {
        let mut page = Self { file: format!("{name}.{section}"), text: Vec::new() };
        let mut title = Roff::new();
        title.control("TH", [name, section, "", PROGRAM_VERSION, MANUAL_NAME]);
        page.append_rendered(|text| title.to_writer(text));
        page
    }

    pub(super) fn push_roff(&mut self, roff: &Roff) {
        // Without the preamble, which the title already has.
        self.text.extend_from_slice(roff.to_roff().as_bytes());
    }

    fn append_rendered(&mut self, write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) {
        // Writing to memory does not fail.
        write(&mut self.text).ok();
    }

    /// Prose. Lines that begin with a blank are kept as lines.
    fn push_paragraphs(&mut self, text: &str) {
        let mut roff = Roff::new();
        let own = |paragraph: &&str| !SECTION_HEADINGS.iter().any(|section| paragraph.starts_with(section));
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
        self.push_roff(&roff);
    }

    pub(super) fn push_note(&mut self, note: &ManualNote) {
        let mut roff = Roff::new();
        match note {
            ManualNote::List { heading, entries } => {
                roff.control("SH", [*heading]);
                for (term, says) in *entries {
                    roff.control("TP", []);
                    roff.text([bold(*term)]);
                    roff.text([roman(*says)]);
                }
            }
            ManualNote::Examples(examples) => {
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
            ManualNote::SeeAlso(pages) => {
                roff.control("SH", ["SEE ALSO"]);
                for (n, page) in pages.iter().enumerate() {
                    let (name, section) = page.split_once('(').unwrap_or((page, ""));
                    let comma = if n + 1 < pages.len() { "," } else { "" };
                    roff.text([bold(name), roman(format!("({section}{comma}"))]);
                }
            }
        }
        self.push_roff(&roff);
    }
}
