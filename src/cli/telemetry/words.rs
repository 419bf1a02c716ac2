//! Names and numbers of the measurements in words for people.

use crate::cli::format::{duration, with_spaces};
use crate::cli::state_words::class_word;

/// What there is instead of a number that was not measured.
pub(super) const NO_VALUE: &str = "–";

/// `0.4 ms`, `850 ms`, `2.1 s`, `12 s`, `3 min 12 s`
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a duration is positive, and saturates"
)]
pub(super) fn short_duration(ms: f64) -> String {
    match ms {
        0.0 => "0 ms".to_owned(),
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms if ms < 9_950.0 => format!("{:.1} s", ms / 1000.0),
        ms => duration(((ms / 1000.0).round() as u64).saturating_mul(1000)),
    }
}

/// `8 %`, `0.5 %`: of a share between 0 and 1.
pub(super) fn share(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 1.0 || percent > 99.0 && percent < 100.0 {
        // 100 % only if it is all.
        return format!("{:.1} %", percent.clamp(0.1, 99.9));
    }
    format!("{percent:.0} %")
}

/// The share of a part.
pub(super) fn percent_of(part: u64, whole: u64) -> String {
    ratio(part, whole).map_or_else(|| NO_VALUE.to_owned(), share)
}

/// The part of the whole; `None` of nothing.
pub(super) fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| to_f64(part) / to_f64(whole))
}

#[expect(clippy::cast_precision_loss, reason = "16 digits are more than people read")]
pub(super) fn to_f64(number: u64) -> f64 {
    number as f64
}

/// `12.3`, or nothing measured.
pub(super) fn rate(per_s: Option<f64>) -> String {
    per_s.map_or_else(|| NO_VALUE.to_owned(), |rate| format!("{rate:.1}"))
}

/// `1234567` as `1,234,567`
pub(super) fn group_digits(digits: &str) -> String {
    let first = digits.len() % 3;
    let (head, rest) = digits.split_at(first);
    let groups = rest.as_bytes().chunks(3).map(|group| String::from_utf8_lossy(group).into_owned());
    [head.to_owned()].into_iter().filter(|head| !head.is_empty()).chain(groups).collect::<Vec<_>>().join(",")
}

/// A whole number as people read it.
pub(super) fn number(number: u64) -> String {
    group_digits(&number.to_string())
}

/// The class of a failure.
pub(super) fn class_name(class: &str) -> String {
    match class {
        "timeout" => "no response in time".to_owned(),
        class => with_spaces(&class_word(class)),
    }
}

/// A network in a sentence: `over …`
pub(super) fn interface_name(interface: &str) -> String {
    match interface {
        "ethernet" => "a cable".to_owned(),
        "wifi" => "Wi-Fi".to_owned(),
        "cellular" => "a mobile network".to_owned(),
        "loopback" => "this device itself".to_owned(),
        "other" => "a tunnel or another network".to_owned(),
        newer => with_spaces(newer),
    }
}

/// As the name of a row.
pub(super) fn interface_title(interface: &str) -> String {
    match interface {
        "ethernet" => "Cable".to_owned(),
        "cellular" => "Mobile network".to_owned(),
        "loopback" => "This device".to_owned(),
        "other" => "Tunnel or other".to_owned(),
        name => interface_name(name),
    }
}

/// `08:00 and 09:00`
pub(super) fn hour_range(hour: usize) -> String {
    format!("{hour:02}:00 and {:02}:00", hour + 1)
}

/// The mean of what was measured in milliseconds.
pub(super) fn optional_duration(ms: Option<f64>) -> String {
    ms.map_or_else(|| NO_VALUE.to_owned(), short_duration)
}

/// A whole number of milliseconds, if anything was measured.
pub(super) fn measured_duration(ms: u64, records: u64) -> String {
    if records == 0 { NO_VALUE.to_owned() } else { short_duration(to_f64(ms)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_shares_have_the_digits_that_matter() {
        assert_eq!(
            [0.0, 0.44, 12.0, 999.9, 2_210.0, 9_970.0, 61_000.0].map(short_duration),
            ["0 ms", "0.4 ms", "12 ms", "1.0 s", "2.2 s", "10 s", "1 min 1 s"]
        );
        assert_eq!(
            [0.0, 0.0004, 0.005, 0.53, 0.9999, 1.0].map(share),
            ["0 %", "0.1 %", "0.5 %", "53 %", "99.9 %", "100 %"]
        );
        assert_eq!(percent_of(0, 0), "–");
    }

    #[test]
    fn digits_are_grouped() {
        assert_eq!([0, 12, 123, 1234, 1_234_567].map(number), ["0", "12", "123", "1,234", "1,234,567"]);
    }
}
