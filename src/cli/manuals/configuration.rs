//! The page of the configuration, from the shipped file: its comments explain the keys below them.

use clap_mangen::roff::{Roff, bold, roman};

use super::FORMATS;
use super::notes;
use super::page::Page;

const SHIPPED: &str = include_str!("../../../config.toml");
const NAME: &str = "fieldsync-config";

/// What a line of the file is.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Section(&'a str),
    /// `key = default`
    Key(&'a str),
    /// A key that has no default, with an example.
    Unset(&'a str),
    Comment(&'a str),
    Empty,
}

impl<'a> Line<'a> {
    fn of(line: &'a str) -> Self {
        let comment = line.strip_prefix('#').map(str::trim_start);
        match (line, comment) {
            ("", _) => Self::Empty,
            (_, Some(comment)) if is_key(comment) => Self::Unset(comment),
            (_, Some(comment)) => Self::Comment(comment),
            (line, None) if line.starts_with('[') => Self::Section(line),
            (line, None) => Self::Key(line),
        }
    }
}

fn is_key(text: &str) -> bool {
    text.split_once(" = ").is_some_and(|(key, _)| key.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'_')))
}

pub(super) fn page() -> Page {
    let mut page = Page::begun(NAME, FORMATS);
    let mut roff = Roff::new();
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{NAME} - configuration of fieldsyncd"))]);
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([bold("/etc/fieldsync/config.toml")]);
    roff.control("SH", ["DESCRIPTION"]);
    describe(&mut roff);
    page.push(&roff);
    for note in notes::of(NAME) {
        page.note(&note);
    }
    page
}

fn describe(roff: &mut Roff) {
    let mut explained = String::new();
    for line in SHIPPED.lines().map(Line::of) {
        let key = match line {
            Line::Comment(comment) => {
                if !explained.is_empty() {
                    explained.push(' ');
                }
                explained.push_str(comment);
                continue;
            }
            Line::Empty => {
                if !explained.is_empty() {
                    roff.text([roman(std::mem::take(&mut explained))]);
                }
                continue;
            }
            Line::Section(name) => {
                roff.control("SH", [name]);
                continue;
            }
            Line::Key(line) => line.to_owned(),
            Line::Unset(line) => format!("{line} (an example: it has no default)"),
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
    fn lines_are_told_apart() {
        for (line, expected) in [
            ("[server]", Line::Section("[server]")),
            ("url = \"\"", Line::Key("url = \"\"")),
            ("# token_file = \"/t\"", Line::Unset("token_file = \"/t\"")),
            ("# File with the bearer token", Line::Comment("File with the bearer token")),
            ("# Without it: a = b", Line::Comment("Without it: a = b")),
            ("", Line::Empty),
        ] {
            assert_eq!(Line::of(line), expected);
        }
    }

    #[test]
    fn every_key_has_an_explanation_of_its_own_in_the_file() {
        let lines: Vec<Line<'_>> = SHIPPED.lines().map(Line::of).collect();
        for pair in lines.windows(2) {
            if matches!(pair[1], Line::Key(_) | Line::Unset(_)) {
                assert!(matches!(pair[0], Line::Comment(_)), "{pair:?}");
            }
        }
    }
}
