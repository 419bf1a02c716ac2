//! Finds the directory of the queue in files with mistakes: the last good configuration is kept there.

use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::source::ConfigFile;

/// What files with mistakes say about the directory of the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateDirHint {
    /// They name it.
    Named(PathBuf),
    /// They do not name it: it is the default, or the mistake hides it.
    NotNamed,
    /// They name it in a way that cannot be understood.
    Unclear,
}

/// Looks for the directory of the queue in files that may have mistakes, and in the value of the variable for this key.
pub fn find_state_dir(files: &[ConfigFile], variable: Option<&str>) -> StateDirHint {
    let mut named: Option<String> = variable.map(str::to_owned);
    if named.is_none() {
        for file in files {
            let (document, _) = DeTable::parse_recoverable(&file.text);
            let queue = document.get_ref().get("queue").and_then(|queue| queue.get_ref().as_table());
            let Some(value) = queue.and_then(|keys| keys.get("state_dir")) else { continue };
            match value.get_ref() {
                // The parser guesses where a path without quotes ends.
                DeValue::String(path) if is_quoted(&file.text, value) => named = Some(path.to_string()),
                _ => return StateDirHint::Unclear,
            }
        }
    }
    match named.as_deref().map(str::trim) {
        Some("") => StateDirHint::Unclear,
        Some(path) => StateDirHint::Named(path.into()),
        None => StateDirHint::NotNamed,
    }
}

fn is_quoted(text: &str, value: &Spanned<DeValue<'_>>) -> bool {
    text.get(value.span()).is_some_and(|written| written.starts_with(['"', '\'']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(texts: &[&str], variable: Option<&str>) -> StateDirHint {
        let files: Vec<ConfigFile> =
            texts.iter().map(|text| ConfigFile { path: "f".into(), text: (*text).into() }).collect();
        find_state_dir(&files, variable)
    }

    #[test]
    fn the_directory_is_found_in_spite_of_mistakes() {
        let named = |path: &str| StateDirHint::Named(path.into());
        for (texts, variable, expected) in [
            (&["[queue]\nstate_dir = '/a'\nmax_records = 'many'"][..], None, named("/a")),
            (&["[queue]\nstate_dir = '/a'\n[batch\nlearn = ="], None, named("/a")),
            (&["[queue]\nstate_dir = '/a'", "queue.state_dir = '/b'\nx"], None, named("/b")),
            (&["[queue]\nstate_dir = '/a'"], Some("/c"), named("/c")),
            (&["[queu]\nstate_dir = '/a'"], None, StateDirHint::NotNamed),
            (&["[queue]\nmax_records = 5"], None, StateDirHint::NotNamed),
            (&["[queue]\nstate_dir = 5"], None, StateDirHint::Unclear),
            (&["[queue]\nstate_dir = ''"], None, StateDirHint::Unclear),
        ] {
            assert_eq!(found(texts, variable), expected, "{texts:?}");
        }
        // Which of the two it is depends on what the parser recovers.
        for text in ["[queue]\nstate_dir = /data/q", "[queue]\nstate_dir = /data/q\nmax_records = 5"] {
            assert!(!matches!(found(&[text], None), StateDirHint::Named(_)), "{text}");
        }
    }
}
