//! Where the keys of the configuration are set that a remedy names.

use crate::config::{ConfigSource, ConfigSources, LAST_GOOD_FILE};

/// Adds the file and line, or the variable, to each key `server.…` that has one:
/// `correct server.url (/etc/fieldsync/conf.d/10-setup.toml:4)`.
pub(super) fn locate_keys(remedy: &str, sources: &ConfigSources) -> String {
    let mut located = String::with_capacity(remedy.len());
    let mut rest = remedy;
    while let Some(start) = rest.find("server.") {
        let name = rest[start..].find(|c: char| !(c.is_ascii_lowercase() || matches!(c, '.' | '_')));
        let end = name.map_or(rest.len(), |length| start + length);
        let key = rest[start..end].trim_end_matches('.');
        let end = start + key.len();
        located.push_str(&rest[..end]);
        if let Some(place) = find_place(sources.of(key)) {
            located.extend([" (", &place, ")"]);
        }
        rest = &rest[end..];
    }
    located + rest
}

/// The copy that the daemon keeps is not the place to correct a value.
fn find_place(source: &ConfigSource) -> Option<String> {
    match source {
        ConfigSource::Default => None,
        ConfigSource::File { path, .. } if path.ends_with(LAST_GOOD_FILE) => None,
        ConfigSource::File { .. } | ConfigSource::Variable(_) => Some(source.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigFile, parse_layers};

    #[test]
    fn keys_are_named_with_the_place_where_they_are_set() {
        let file = |path: &str, text: &str| ConfigFile { path: path.into(), text: text.into() };
        let files = [
            file("/etc/f/config.toml", "[server]\nurl = \"http://old.example\"\n"),
            file("/etc/f/conf.d/10-setup.toml", "# By setup\n[server]\nurl = \"http://new.example\"\n"),
        ];
        let variables = [("FIELDSYNC_SERVER__PATH".into(), "/v2".into())];
        let sources = parse_layers(&files.to_vec().into(), variables.into_iter()).unwrap().sources;
        assert_eq!(
            locate_keys("correct server.url and server.path, or set server.ca_file.", &sources),
            "correct server.url (/etc/f/conf.d/10-setup.toml:3) and server.path (environment variable \
             FIELDSYNC_SERVER__PATH), or set server.ca_file."
        );
        let last_good = [file("/var/lib/f/last-good.toml", "[server]\nurl = \"http://new.example\"\n")];
        let sources = parse_layers(&last_good.to_vec().into(), std::iter::empty()).unwrap().sources;
        assert_eq!(locate_keys("correct server.url", &sources), "correct server.url");
    }
}
