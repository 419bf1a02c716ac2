//! `log.level`: the log level, for all modules or for each.

use thiserror::Error;
use tracing_subscriber::filter::{LevelFilter, Targets};

/// A level that cannot be parsed.
#[derive(Debug, Error)]
#[error(
    "must be error, warn, info, debug, trace or off, or a filter such as \"info,fieldsync::store=debug\"; `{0}` is neither \
     a level nor MODULE=LEVEL"
)]
pub struct LevelError(String);

/// Parses a filter. The parser of tracing accepts any word, and then logs only the module of that name.
pub fn read_log_filter(text: &str) -> Result<Targets, LevelError> {
    let mut filter = Targets::new();
    for part in text.split(',').map(str::trim) {
        let wrong = || LevelError(part.to_owned());
        let level =
            |text: &str| text.parse::<LevelFilter>().ok().filter(|_| !text.is_empty()).ok_or_else(wrong);
        filter = match part.split_once('=').map(|(module, of_it)| (module.trim(), of_it.trim())) {
            None => filter.with_default(level(part)?),
            Some(("", _)) => return Err(wrong()),
            Some((module, of_it)) => filter.with_target(module, level(of_it)?),
        };
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_levels_and_modules_with_levels_are_accepted() {
        for (text, same) in [
            ("info", "info"),
            ("INFO", "info"),
            ("off", "off"),
            ("info, fieldsync::store = debug", "info,fieldsync::store=debug"),
        ] {
            assert_eq!(read_log_filter(text).unwrap(), same.parse().unwrap(), "{text}");
        }
        for text in
            ["", " ", ",", "info,", "loud", "infoo", "=info", "fieldsync=", "fieldsync=loud", "a=b=info", "6"]
        {
            assert!(read_log_filter(text).is_err(), "{text}");
        }
    }
}
