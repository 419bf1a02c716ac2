//! The only module that reads a clock. All other code gets the time as an argument.
//!
//! [`Clock`] is monotonic and orders events within one run of a process. [`SteadyClock`] is for due times: they must survive
//! a restart, and a wall clock that jumps by years (an empty battery). [`wall_ms`] is for people: no decision depends
//! on it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

const DAY_MS: u64 = 24 * 3600 * 1000;

/// A monotonic clock that counts from its making.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts counting now.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    pub fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Milliseconds that continue over restarts and never go back, independent of changes to the wall clock.
///
/// Within a run it counts the time since boot, including sleep. After a restart it continues from the last value of the
/// previous run, or from the wall clock if that is ahead. So no wait gets longer; if the wall clock was set ahead,
/// waits may end early.
#[derive(Clone, Copy, Debug)]
pub struct SteadyClock {
    at_start: u64,
    start: u64,
}

impl SteadyClock {
    /// Continues from `last`, the last value of the previous run.
    pub fn continue_from(last: u64) -> Self {
        Self { at_start: last.max(wall_ms()), start: since_boot_ms() }
    }

    /// What time it is.
    pub fn now(&self) -> Now {
        let steady = self.at_start + since_boot_ms().saturating_sub(self.start);
        Now { steady, wall: wall_ms() }
    }
}

/// One moment on both clocks, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For due times.
    pub steady: u64,
    /// For people.
    pub wall: u64,
}

impl Now {
    /// A steady time as the wall clock would show it.
    pub fn to_wall_ms(self, steady: u64) -> u64 {
        (self.wall + steady.saturating_sub(self.steady)).saturating_sub(self.steady.saturating_sub(steady))
    }
}

fn since_boot_ms() -> u64 {
    use nix::time::{ClockId, clock_gettime};
    // Every supported Linux has this clock; without it, waits would end early.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| millis(time.into()))
}

/// The wall clock in milliseconds since 1970 (0 for a clock that stands before it).
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

/// A duration in whole milliseconds, saturating.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// RFC 3339 in UTC with milliseconds, as the interfaces promise.
pub fn rfc3339(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    let stamp = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    format!("{stamp:.3}")
}

/// The start in UTC of a date such as `2026-03-01`; none if the text is not a date.
pub fn date_start_ms(date: &str) -> Option<u64> {
    let start: Timestamp = format!("{date}T00:00:00Z").parse().ok()?;
    u64::try_from(start.as_millisecond()).ok()
}

/// The hour of the day in the time zone of the device, 0 to 23.
pub fn local_hour(ms: u64) -> usize {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    let stamp = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    usize::try_from(stamp.to_zoned(TimeZone::system()).hour()).unwrap_or_default()
}

/// A day of this week and a time, for people: `Tuesday 14:05 UTC`. With the date if the day is not within a week.
pub fn weekday_text(ms: u64, now: u64) -> String {
    if ms.abs_diff(now) < 6 * DAY_MS { format_utc(ms, "%A %H:%M UTC") } else { minute_text(ms) }
}

/// A date and a time, for people: `2026-03-01 08:15 UTC`
pub fn minute_text(ms: u64) -> String {
    format_utc(ms, "%Y-%m-%d %H:%M UTC")
}

fn format_utc(ms: u64, format: &str) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    let stamp = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    stamp.strftime(format).to_string()
}

/// Serde for a wall time in milliseconds as RFC 3339 text.
pub mod as_rfc3339 {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes it.
    pub fn serialize<S: Serializer>(ms: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::rfc3339(*ms))
    }

    /// Reads it; times before 1970 are 0.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        let stamp: Timestamp = text.parse().map_err(D::Error::custom)?;
        Ok(u64::try_from(stamp.as_millisecond()).unwrap_or(0))
    }
}

/// As [`as_rfc3339`], for a time that may be missing.
pub mod as_rfc3339_option {
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes it, or null.
    pub fn serialize<S: Serializer>(ms: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        match ms {
            Some(ms) => serializer.serialize_some(&super::rfc3339(*ms)),
            None => serializer.serialize_none(),
        }
    }

    /// Reads it, or null.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        #[derive(Deserialize)]
        struct Stamp(#[serde(with = "super::as_rfc3339")] u64);
        Ok(Option::<Stamp>::deserialize(deserializer)?.map(|stamp| stamp.0))
    }
}

#[cfg(test)]
mod tests {
    use super::{DAY_MS, minute_text, rfc3339, weekday_text};

    #[test]
    fn people_read_the_day_of_the_week_and_the_minute() {
        let sunday = 1_772_352_930_120;
        assert_eq!(minute_text(sunday), "2026-03-01 08:15 UTC");
        assert_eq!(weekday_text(sunday, sunday + DAY_MS), "Sunday 08:15 UTC");
        assert_eq!(weekday_text(sunday, sunday + 6 * DAY_MS), "2026-03-01 08:15 UTC");
    }

    #[test]
    fn times_are_written_in_utc_with_milliseconds() {
        assert_eq!(rfc3339(1_772_352_930_120), "2026-03-01T08:15:30.120Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
    }
}
