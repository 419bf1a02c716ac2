//! Finds the directory of the queue in files with mistakes: the last good configuration is kept there.

use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::source::ConfigFile;
use super::{Config, Queue};

/// The directory of the queue according to files that may have mistakes, and to the value of the variable for this key.
/// `None` if the files name it in a way that cannot be understood.
pub fn find_state_dir(files: &[ConfigFile], variable: Option<&str>) -> Option<PathBuf> {
    let mut named: Option<String> = variable.map(str::to_owned);
    if named.is_none() {
        for file in files {
            let (document, _) = DeTable::parse_recoverable(&file.text);
            let queue = document.get_ref().get("queue").and_then(|queue| queue.get_ref().as_table());
            match queue.and_then(|keys| keys.get("state_dir")).map(Spanned::get_ref) {
                None => {}
                Some(DeValue::String(path)) => named = Some(path.to_string()),
                Some(_) => return None,
            }
        }
    }
    let state_dir = match named.as_deref().map(str::trim) {
        Some("") => return None,
        named => named.map(PathBuf::from),
    };
    Some(Config { queue: Queue { state_dir, ..Queue::default() }, ..Config::default() }.state_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(texts: &[&str], variable: Option<&str>) -> Option<PathBuf> {
        let files: Vec<ConfigFile> =
            texts.iter().map(|text| ConfigFile { path: "f".into(), text: (*text).into() }).collect();
        find_state_dir(&files, variable)
    }

    #[test]
    fn the_directory_is_found_in_spite_of_mistakes() {
        for (texts, variable, expected) in [
            (&["[queue]\nstate_dir = '/a'\nmax_records = 'many'"][..], None, Some("/a")),
            (&["[queue]\nstate_dir = '/a'\n[batch\nlearn = ="], None, Some("/a")),
            (&["[queue]\nstate_dir = '/a'", "queue.state_dir = '/b'\nx"], None, Some("/b")),
            (&["[queue]\nstate_dir = '/a'"], Some("/c"), Some("/c")),
            (&["[queue]\nstate_dir = 5"], None, None),
            (&["[queue]\nstate_dir = ''"], None, None),
        ] {
            assert_eq!(found(texts, variable), expected.map(PathBuf::from), "{texts:?}");
        }
    }
}
