//! Rules for all values that are texts: no surrounding white space, no control characters, and not empty unless the
//! key allows it.

use toml::{Table, Value};

use super::Config;
use super::invalid_value::InvalidValue;

/// Keys for which an empty text means: none.
const KEYS_THAT_MAY_BE_EMPTY: [&str; 4] =
    ["server.url", "ipc.admin_group", "web.listen", "telemetry.otlp_url"];
/// The kernel's limit for paths (`PATH_MAX` without the final zero), which are the longest values.
pub(super) const TEXT_BYTES_MAX: usize = 4095;

/// Removes white space that an editor or a variable of another system leaves around values.
pub(super) fn trim_texts(sections: &mut Table) {
    let keys = sections.iter_mut().filter_map(|(_, keys)| keys.as_table_mut()).flatten();
    for (_, value) in keys {
        if let Value::String(text) = value {
            *text = text.trim().to_owned();
        }
    }
}

/// Whether a text can be the name of a key or section.
pub(super) fn is_plain_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || b"_.".contains(&byte))
}

/// All texts that break a rule.
pub(super) fn check_texts(config: &Config) -> Vec<InvalidValue> {
    let Ok(sections) = Table::try_from(config) else { return Vec::new() };
    let mut invalid = Vec::new();
    for (section, keys) in &sections {
        for (key, value) in keys.as_table().into_iter().flatten() {
            let key = format!("{section}.{key}");
            let reason = value.as_str().and_then(|text| find_fault(&key, text));
            invalid.extend(reason.map(|reason| InvalidValue { key, reason }));
        }
    }
    invalid
}

fn find_fault(key: &str, text: &str) -> Option<String> {
    if text.trim().is_empty() && !KEYS_THAT_MAY_BE_EMPTY.contains(&key) {
        return Some("must not be empty: leave the key out to use its default".into());
    }
    if text.contains(char::is_control) {
        return Some("must not contain control characters".into());
    }
    (text.len() > TEXT_BYTES_MAX).then(|| format!("must have at most {TEXT_BYTES_MAX} bytes"))
}
