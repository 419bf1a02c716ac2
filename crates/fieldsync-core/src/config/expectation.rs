//! Says in plain words which kind of value a key takes, with an example.

use toml::{Table, Value};

use super::Config;
use super::texts::is_plain_name;

/// Every key, with its default or an example.
const SHIPPED_FILE: &str = include_str!("../../../../config.toml");
/// What the parser's messages end with: `invalid type: string "many", expected u64`.
const EXPECTED: &str = ", expected ";

/// `must be a whole number, for example 5000000`, if the parser's message is about the type or range of a value.
pub(super) fn describe_expectation(key: &str, message: &str) -> Option<String> {
    if !message.starts_with("invalid type") && !message.starts_with("invalid value") {
        return None;
    }
    let (_, expected) = message.trim().rsplit_once(EXPECTED)?;
    let expected = expected.replace('\n', ", ");
    if !key.contains('.') {
        return Some(format!("must be a section: write [{key}], and its keys below it"));
    }
    let is_range = message.starts_with("invalid value");
    let kind = match expected.as_str() {
        "u8" | "u16" | "u32" | "u64" | "usize" | "i64" if is_range => describe_range(key),
        "u8" | "u16" | "u32" | "u64" | "usize" | "i64" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" | "path string" | "string or table" => "a text in quotes".to_owned(),
        _ => expected,
    };
    Some(with_example(key, &format!("must be {kind}")))
}

/// A number that the parser cannot hold: `must be a whole number of at least 1`.
pub(super) fn describe_large_number(key: &str) -> String {
    with_example(key, &format!("must be {}", describe_range(key)))
}

/// The limits of a whole number, as the check of the values names them.
fn describe_range(key: &str) -> String {
    let limit = |candidates: &[i64], words: &str| {
        candidates
            .iter()
            .find_map(|candidate| reason_against(key, *candidate)?.strip_prefix(words)?.parse().ok())
    };
    let least: i64 = limit(&[0], "must be at least ").unwrap_or(0);
    let most: Option<i64> = limit(&[i64::from(u8::MAX), i64::from(u32::MAX)], "must be at most ");
    let most = most.or_else(|| reason_against(key, i64::from(u8::MAX) + 1)?.is_empty().then_some(255));
    match most {
        Some(most) => format!("a whole number from {least} to {most}"),
        None => format!("a whole number of at least {least}"),
    }
}

/// Why this number is not allowed; empty if its type has no place for it.
fn reason_against(key: &str, number: i64) -> Option<String> {
    let (section, name) = key.split_once('.')?;
    let mut sections = Table::try_from(Config::default()).ok()?;
    sections.get_mut(section)?.as_table_mut()?.insert(name.to_owned(), Value::Integer(number));
    let Ok(config) = Value::Table(sections).try_into::<Config>() else { return Some(String::new()) };
    let own = config.validate().into_iter().find(|invalid| invalid.key == key)?;
    Some(own.reason.split([':', ',']).next().unwrap_or_default().to_owned())
}

/// Adds the example of the shipped file, unless the text has one.
pub(super) fn with_example(key: &str, reason: &str) -> String {
    match example_of(key) {
        Some(example) if !reason.contains(" such as ") => format!("{reason}, for example {example}"),
        _ => reason.to_owned(),
    }
}

/// Section and name of every key, in the order of the shipped file.
pub(super) fn shipped_keys() -> impl Iterator<Item = (&'static str, &'static str)> {
    let mut section = "";
    SHIPPED_FILE.lines().filter_map(move |line| {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
            return None;
        }
        let (key, _) = line.strip_prefix("# ").unwrap_or(line).split_once(" = ")?;
        (!section.is_empty() && is_plain_name(key)).then_some((section, key))
    })
}

/// The value of this key in the shipped file, which has an example for keys without a default.
fn example_of(key: &str) -> Option<&'static str> {
    let (section, name) = key.split_once('.')?;
    if !is_plain_name(section) || !is_plain_name(name) {
        return None;
    }
    let (_, keys) = SHIPPED_FILE.split_once(&format!("\n[{section}]\n"))?;
    let value = keys
        .lines()
        .take_while(|line| !line.starts_with('['))
        .find_map(|line| line.strip_prefix("# ").unwrap_or(line).strip_prefix(name)?.strip_prefix(" = "))?;
    (value != "\"\"").then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_value_is_named_in_plain_words_with_an_example() {
        for (key, message, expected) in [
            (
                "queue.max_records",
                "invalid type: string \"many\", expected u64",
                Some("must be a whole number, for example 5000000"),
            ),
            (
                "server.ca_file",
                "invalid type: integer `1`, expected path string",
                Some("must be a text in quotes, for example \"/etc/fieldsync/ca.pem\""),
            ),
            (
                "queue.max_bytes",
                "invalid type: boolean `true`, expected a size such as \"4MiB\"",
                Some("must be a size such as \"4MiB\""),
            ),
            (
                "ipc.admin_group",
                "invalid type: integer `1`, expected a string",
                Some("must be a text in quotes"),
            ),
            (
                "server",
                "invalid type: string \"x\", expected struct Server",
                Some("must be a section: write [server], and its keys below it"),
            ),
            (
                "queue.max_records",
                "invalid value: integer `-5`, expected u64",
                Some("must be a whole number of at least 1, for example 5000000"),
            ),
            (
                "telemetry.alert_queue_percent",
                "invalid value: integer `300`, expected u8",
                Some("must be a whole number from 0 to 100, for example 80"),
            ),
            (
                "ipc.max_connections",
                "invalid value: integer `-1`, expected usize",
                Some("must be a whole number from 2 to 65536, for example 64"),
            ),
            (
                "batch.large_queue_records",
                "invalid value: integer `-1`, expected u64",
                Some("must be a whole number of at least 0, for example 100"),
            ),
            ("server.urll", "unknown field `urll`, expected one of `url`, `path`", None),
        ] {
            assert_eq!(describe_expectation(key, message).as_deref(), expected);
        }
    }
}
