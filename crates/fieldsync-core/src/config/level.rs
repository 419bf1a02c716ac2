//! `log.level`: how much is logged, for all modules and for each.

use thiserror::Error;
use tracing_subscriber::filter::{LevelFilter, Targets};

/// A level that cannot be read.
#[derive(Debug, Error)]
#[error(
    "must be error, warn, info, debug, trace or off, or a filter such as \"info,fieldsync::store=debug\"; `{0}` is neither \
     a level nor MODULE=LEVEL"
)]
pub struct LevelError(String);

/// Reads a filter. A word that is not a level would silence everything but a module of that name.
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
    fn levels_and_modules_are_read_with_blanks_between_them_and_nothing_else_is() {
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
