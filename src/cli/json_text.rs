//! JSON laid out differently, token by token as it was written: numbers keep their digits and fields
//! their order, which a detour over parsed values would not grant.
//!
//! Input must be valid JSON; of anything else, nothing but white space is changed.

use std::fmt::Write as _;

/// On one line, without white space between tokens.
pub(crate) fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut strings = Strings::default();
    for character in json.chars() {
        if strings.inside(character) || !is_space(character) {
            out.push(character);
        }
    }
    out
}

/// Indented, one field a line, with an end of line.
pub(crate) fn pretty(json: &str) -> String {
    let tokens = compact(json);
    let mut out = String::with_capacity(tokens.len() * 2);
    let mut strings = Strings::default();
    let mut depth = 0_usize;
    let mut characters = tokens.chars().peekable();
    while let Some(character) = characters.next() {
        if strings.inside(character) {
            out.push(character);
            continue;
        }
        match character {
            '{' | '[' => {
                out.push(character);
                if let Some(end) = characters.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(character);
            }
            ',' => {
                out.push(',');
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => out.push(character),
        }
    }
    out.push('\n');
    out
}

/// The same values, without the characters that command a terminal and that JSON allows in strings as they are.
pub(crate) fn tame(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            // Writing to memory does not fail.
            '\u{7f}'..='\u{9f}' => drop(write!(out, "\\u{:04x}", u32::from(character))),
            _ => out.push(character),
        }
    }
    out
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    for _ in 0..depth {
        out.push_str("  ");
    }
}

/// Where strings begin and end.
#[derive(Default)]
struct Strings {
    open: bool,
    escaped: bool,
}

impl Strings {
    /// Whether this character, the next of the text, belongs to a string (its quotes included).
    fn inside(&mut self, character: char) -> bool {
        if !self.open {
            self.open = character == '"';
            return self.open;
        }
        if self.escaped {
            self.escaped = false;
        } else if character == '\\' {
            self.escaped = true;
        } else if character == '"' {
            self.open = false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"z": 1.10, "a":[ 1e400,{ } ,[]], "s":"{\"x\": [1, 2]}\\", "e": {"ü" : null}}"#;

    #[test]
    fn what_commands_a_terminal_is_escaped_and_means_the_same() {
        let text = "{\"s\":\"a\u{9b}2J\u{7f}ü\"}\n";
        let tamed = tame(text);
        assert_eq!(tamed, "{\"s\":\"a\\u009b2J\\u007fü\"}\n");
        let [one, other] =
            [text, &tamed].map(|text| serde_json::from_str::<serde_json::Value>(text).unwrap());
        assert_eq!(one, other);
    }

    #[test]
    fn layout_changes_and_nothing_else_does() {
        let one_line = r#"{"z":1.10,"a":[1e400,{},[]],"s":"{\"x\": [1, 2]}\\","e":{"ü":null}}"#;
        let indented = "{\n  \"z\": 1.10,\n  \"a\": [\n    1e400,\n    {},\n    []\n  ],\n  \
                        \"s\": \"{\\\"x\\\": [1, 2]}\\\\\",\n  \"e\": {\n    \"ü\": null\n  }\n}\n";
        assert_eq!(compact(TEXT), one_line);
        assert_eq!(pretty(TEXT), indented);
        assert_eq!(compact(indented), one_line);
    }
}
