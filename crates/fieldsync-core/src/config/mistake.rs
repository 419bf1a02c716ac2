//! Describes a mistake in a TOML file with its position. The line is never shown, because it may contain a password. A
//! value is shown only if its key cannot have a secret value.
//!
//! The gateway describes the mistakes in its own file in the same way.

use std::fmt;

use toml::{Table, Value, de};

use super::Config;
use super::texts::is_plain_name;

/// Keys whose value may contain a password, although it should not.
const KEYS_WITH_SECRETS: [&str; 2] = ["server.url", "server.proxy"];
/// Prefixes of messages that contain a key but no value.
const KEY_MESSAGE_PREFIXES: [&str; 2] = ["missing field", "duplicate field"];
/// Names below this similarity (0 to 1) are not suggested.
const SIMILARITY_MIN: f64 = 0.7;

/// A mistake in a TOML file. Its text is `line 2, column 9: server.proxy: reason`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TomlMistake {
    /// Line and column, each from 1.
    pub position: Option<(usize, usize)>,
    /// The key on that line, with its section.
    pub key: Option<String>,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for TomlMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.position {
            write!(f, "line {line}, column {column}: ")?;
        }
        if let Some(key) = self.key.as_ref().filter(|_| !names_its_key(&self.reason)) {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.reason)
    }
}

/// Whether a reason says itself which key it is about.
pub(super) fn names_its_key(reason: &str) -> bool {
    reason.starts_with("unknown key ")
}

/// Text that is not TOML. The parser's messages do not quote the text.
pub fn describe_syntax(text: &str, error: &de::Error) -> TomlMistake {
    TomlMistake { position: position_of(text, error), key: None, reason: on_one_line(error.message()) }
}

/// An unknown key, or a value of the wrong type. `may_show_value` says of which keys the value may be shown.
pub fn describe_value(text: &str, error: &de::Error, may_show_value: impl Fn(&str) -> bool) -> TomlMistake {
    let key = error.span().and_then(|span| key_at(text, span.start));
    let message = error.message();
    let is_section = error.span().is_some_and(|span| is_section_header(text, span.start, message));
    let reason = if let Some(unknown) = describe_unknown(message, key.as_deref(), is_section) {
        unknown
    } else if KEY_MESSAGE_PREFIXES.iter().any(|prefix| message.starts_with(prefix))
        || key.as_deref().is_some_and(may_show_value)
    {
        on_one_line(message)
    } else {
        match message.rsplit_once(", expected ") {
            Some((_, expected)) => format!("wrong type, expected {}", on_one_line(expected)),
            None => "the value cannot be used".to_owned(),
        }
    };
    TomlMistake { position: position_of(text, error), key, reason }
}

/// Whether the line of this position is `[NAME]`, with the name that the message begins with.
fn is_section_header(text: &str, position: usize, message: &str) -> bool {
    let Some((above, below)) = text.split_at_checked(position) else { return false };
    let line_start = above.rfind('\n').map_or(0, |end| end + 1);
    let line_end = below.find('\n').map_or(text.len(), |end| position + end);
    let line = text.get(line_start..line_end).unwrap_or_default().trim();
    line.starts_with('[') && message.split('`').nth(1).is_some_and(|name| line.contains(name))
}

/// `unknown key request_timout in [server]; did you mean request_timeout?`, if the parser's message is about a name.
pub(super) fn describe_unknown(message: &str, key: Option<&str>, is_section: bool) -> Option<String> {
    let (name, expected) = message.strip_prefix("unknown field `")?.split_once('`')?;
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    let show_name = |name: &str| if is_section { format!("[{name}]") } else { name.to_owned() };
    let unknown = match key.and_then(|key| key.rsplit_once('.')) {
        _ if is_section => format!("unknown section [{name}]"),
        Some((section, last)) if last == name => format!("unknown key {name} in [{section}]"),
        _ => format!("unknown key {name}"),
    };
    let similarity = |known: &str| strsim::jaro(&name.to_lowercase(), known);
    let nearest = known.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    Some(match nearest {
        Some(nearest) if similarity(nearest) > SIMILARITY_MIN => {
            format!("{unknown}; did you mean {}?", show_name(nearest))
        }
        Some(_) => {
            let names: Vec<String> = known.iter().map(|name| show_name(name)).collect();
            format!("{unknown}; known here: {}", names.join(", "))
        }
        None => unknown,
    })
}

fn position_of(text: &str, error: &de::Error) -> Option<(usize, usize)> {
    position_at(text, error.span()?.start)
}

/// Line and column of a byte, each from 1.
pub(super) fn position_at(text: &str, byte: usize) -> Option<(usize, usize)> {
    let before = text.get(..byte)?;
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    Some((line, column))
}

/// The key on the line of this position, with its section, if it is a plain key.
fn key_at(text: &str, position: usize) -> Option<String> {
    let line_start = text.get(..position)?.rfind('\n').map_or(0, |end| end + 1);
    let (above, line) = text.split_at_checked(line_start)?;
    let key = line.lines().next()?.split_once('=')?.0.trim();
    let section = above.lines().rev().find_map(|line| line.trim().strip_prefix('['));
    // `[[name]]` begins one of several tables.
    let section = section.and_then(|line| Some(line.trim_start_matches('[').split_once(']')?.0.trim()));
    if !is_plain_name(key) || !section.is_none_or(is_plain_name) {
        return None;
    }
    Some(section.map_or_else(|| key.to_owned(), |section| format!("{section}.{key}")))
}

/// Keys without a default are paths. Instead of the path of a secret, the file may contain the secret itself.
pub(super) fn may_show_value_of(key: &str) -> bool {
    let Some((section, name)) = key.split_once('.') else { return false };
    let defaults = Table::try_from(Config::default()).unwrap_or_default();
    let has_default =
        defaults.get(section).and_then(Value::as_table).is_some_and(|keys| keys.contains_key(name));
    has_default && !KEYS_WITH_SECRETS.contains(&key)
}

fn on_one_line(message: &str) -> String {
    message.trim().replace('\n', ", ")
}
