//! Parsers for the values of options.

use std::time::Duration;

use bytesize::ByteSize;

pub(super) fn parse_size(text: &str) -> Result<usize, String> {
    let size = text.parse::<ByteSize>()?.as_u64();
    match usize::try_from(size) {
        Ok(0) => Err("must not be zero".into()),
        Ok(size) => Ok(size),
        Err(error) => Err(error.to_string()),
    }
}

pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("must not be zero".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must not be zero".into()),
        Ok(count) => Ok(count),
        Err(error) => Err(format!("{error}")),
    }
}

pub(super) fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        Ok(_) => Err("must lie between 0.0 and 1.0".into()),
        Err(error) => Err(error.to_string()),
    }
}
