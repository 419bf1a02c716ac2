//! Values of options and keys, as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::Size;

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

/// A duration that is not zero, written `"30s"`, `"15m"`, `"7d"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PositiveDuration(pub(crate) Duration);

impl PositiveDuration {
    pub(crate) const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub(crate) const fn days(days: u64) -> Self {
        Self::secs(days * SECONDS_PER_DAY)
    }
}

impl FromStr for PositiveDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_duration(text).map(Self)
    }
}

impl fmt::Display for PositiveDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whole days stay days: 400 of them would become a year, a month and hours.
        let days = self.0.as_secs() / SECONDS_PER_DAY;
        if days > 1 && self.0 == Duration::from_secs(days * SECONDS_PER_DAY) {
            return write!(f, "{days}days");
        }
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Serialize for PositiveDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PositiveDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|reason| {
            serde::de::Error::custom(format!(
                "`{text}` is not a duration such as \"30s\" or \"7d\": {reason}"
            ))
        })
    }
}

/// For keys that may be missing or zero.
pub(crate) mod optional_duration {
    use super::{Deserialize, Deserializer, Duration, Serializer};
    use crate::config::Span;

    #[expect(clippy::ref_option, reason = "serde passes the field by reference")]
    pub(crate) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => serializer.collect_str(&humantime::format_duration(*duration)),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Span>::deserialize(deserializer)?.map(|span| span.0))
    }
}

pub(crate) fn parse_size(text: &str) -> Result<Size, String> {
    match text.parse::<ByteSize>()?.as_u64() {
        0 => Err("must not be zero".into()),
        size => Ok(Size(size)),
    }
}

pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("must not be zero".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        Ok(_) => Err("must lie between 0.0 and 1.0".into()),
        Err(error) => Err(error.to_string()),
    }
}
