//! What holds for every value that is written as text, whatever its key: no white space around it, no control
//! characters, and nothing empty where empty says nothing.

use toml::{Table, Value};

use super::Config;
use super::check::Finding;

/// Keys for which an empty text says: none.
const MAY_BE_EMPTY: [&str; 3] = ["server.url", "ipc.admin_group", "web.listen"];
/// As the kernel has it for paths, which are the longest values (`PATH_MAX` without the end).
pub(super) const MAX_TEXT_BYTES: usize = 4095;

/// Takes the white space away that an editor or a variable of another system leaves around values.
pub(super) fn trim_texts(sections: &mut Table) {
    let keys = sections.iter_mut().filter_map(|(_, keys)| keys.as_table_mut()).flatten();
    for (_, value) in keys {
        if let Value::String(text) = value {
            *text = text.trim().to_owned();
        }
    }
}

/// What no value may be.
pub(super) fn check_texts(config: &Config) -> Vec<Finding> {
    let Ok(sections) = Table::try_from(config) else { return Vec::new() };
    let mut findings = Vec::new();
    for (section, keys) in &sections {
        for (key, value) in keys.as_table().into_iter().flatten() {
            let key = format!("{section}.{key}");
            let reason = value.as_str().and_then(|text| fault(&key, text));
            findings.extend(reason.map(|reason| Finding { key, reason }));
        }
    }
    findings
}

fn fault(key: &str, text: &str) -> Option<String> {
    if text.trim().is_empty() && !MAY_BE_EMPTY.contains(&key) {
        return Some("must not be empty: leave the key out to have its default".into());
    }
    if text.contains(char::is_control) {
        return Some("must not contain control characters".into());
    }
    (text.len() > MAX_TEXT_BYTES).then(|| format!("must have at most {MAX_TEXT_BYTES} bytes"))
}
