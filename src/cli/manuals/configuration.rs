//! The manual page of the configuration, generated from the shipped file: each comment explains the key below it.

use clap_mangen::roff::{Roff, bold, roman};

use super::FORMAT_SECTION;
use super::notes;
use super::page::ManualPage;

const SHIPPED_CONFIG: &str = include_str!("../../../config.toml");
const PAGE_NAME: &str = "fieldsync-config";

/// One line of the file.
#[derive(Debug, PartialEq, Eq)]
enum ConfigLine<'a> {
    Section(&'a str),
    /// `key = default`
    Key(&'a str),
    /// A key without a default, with an example value.
    KeyWithoutDefault(&'a str),
    Comment(&'a str),
    Empty,
}

impl<'a> ConfigLine<'a> {
    fn parse(line: &'a str) -> Self {
        let comment = line.strip_prefix('#').map(str::trim_start);
        match (line, comment) {
            ("", _) => Self::Empty,
            (_, Some(comment)) if is_key(comment) => Self::KeyWithoutDefault(comment),
            (_, Some(comment)) => Self::Comment(comment),
            (line, None) if line.starts_with('[') => Self::Section(line),
            (line, None) => Self::Key(line),
        }
    }
}

fn is_key(text: &str) -> bool {
    text.split_once(" = ").is_some_and(|(key, _)| key.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'_')))
}

pub(super) fn config_page() -> ManualPage {
    let mut page = ManualPage::with_title(PAGE_NAME, FORMAT_SECTION);
    let mut roff = Roff::new();
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{PAGE_NAME} - configuration of fieldsyncd"))]);
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([bold("/etc/fieldsync/config.toml"), roman(", "), bold("/etc/fieldsync/conf.d/*.toml")]);
    roff.control("SH", ["DESCRIPTION"]);
    describe_keys(&mut roff);
    page.push_roff(&roff);
    for note in notes::config_file_notes() {
        page.push_note(&note);
    }
    page
}

fn describe_keys(roff: &mut Roff) {
    let mut explained = String::new();
    for line in SHIPPED_CONFIG.lines().map(ConfigLine::parse) {
        let key = match line {
            ConfigLine::Comment(comment) => {
                if !explained.is_empty() {
                    explained.push(' ');
                }
                explained.push_str(comment);
                continue;
            }
            ConfigLine::Empty => {
                if !explained.is_empty() {
                    roff.text([roman(std::mem::take(&mut explained))]);
                }
                continue;
            }
            ConfigLine::Section(name) => {
                roff.control("SH", [name]);
                continue;
            }
            ConfigLine::Key(line) => line.to_owned(),
            ConfigLine::KeyWithoutDefault(line) => format!("{line} (an example; there is no default)"),
        };
        roff.control("TP", []);
        roff.text([bold(key)]);
        roff.text([roman(std::mem::take(&mut explained))]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_parsed_by_kind() {
        for (line, expected) in [
            ("[server]", ConfigLine::Section("[server]")),
            ("url = \"\"", ConfigLine::Key("url = \"\"")),
            ("# token_file = \"/t\"", ConfigLine::KeyWithoutDefault("token_file = \"/t\"")),
            ("# File with the bearer token", ConfigLine::Comment("File with the bearer token")),
            ("# Without it: a = b", ConfigLine::Comment("Without it: a = b")),
            ("", ConfigLine::Empty),
        ] {
            assert_eq!(ConfigLine::parse(line), expected);
        }
    }

    #[test]
    fn every_key_has_an_explanation_of_its_own_in_the_file() {
        let lines: Vec<ConfigLine<'_>> = SHIPPED_CONFIG.lines().map(ConfigLine::parse).collect();
        for pair in lines.windows(2) {
            if matches!(pair[1], ConfigLine::Key(_) | ConfigLine::KeyWithoutDefault(_)) {
                assert!(matches!(pair[0], ConfigLine::Comment(_)), "{pair:?}");
            }
        }
    }
}
