//! Formats numbers, sizes, times and untrusted text for people.

use std::borrow::Cow;

use console::measure_text_width;
use textwrap::{Options, WordSplitter, WrapAlgorithm};

use crate::clock::rfc3339;
pub(crate) use crate::hidden::replace_hidden as strip_controls;

/// Wraps a line to `width`, between words; all lines but the first are indented by `indent`. Only a word that is longer
/// than a line is broken.
pub(crate) fn wrap(line: &str, width: usize, indent: usize) -> Vec<String> {
    let longest = line.split(' ').map(measure_text_width).max().unwrap_or_default();
    let indent = " ".repeat(indent.min(width.saturating_sub(longest)));
    let options = Options::new(width)
        .subsequent_indent(&indent)
        .word_splitter(WordSplitter::NoHyphenation)
        .wrap_algorithm(WrapAlgorithm::FirstFit);
    textwrap::wrap(line, options).into_iter().map(Cow::into_owned).collect()
}

/// `1 record`, `2 records`
pub(crate) fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// The number of line ends in these bytes.
pub(crate) fn count_newlines(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

/// `512 B`, `1.4 KiB`, `2.0 GiB`
pub(crate) fn size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.iter().find(|(shift, _)| bytes >> shift > 0) {
        Some((shift, unit)) => {
            let tenths = (u128::from(bytes) * 10) >> shift;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

/// `850 ms`, `12 s`, `3 min 12 s`, `2 h 5 min`, `3 d 4 h`
pub(crate) fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    let two = |large: u64, unit: &str, small: u64, part: &str| {
        if small == 0 { format!("{large} {unit}") } else { format!("{large} {unit} {small} {part}") }
    };
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds / 60 % 60, "min"),
        _ => two(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
    }
}

/// `12 s ago`, `in 3 min`; `just now` around the present.
pub(crate) fn relative(at: u64, now: u64) -> String {
    if at.abs_diff(now) < 1000 {
        "just now".to_owned()
    } else if at < now {
        format!("{} ago", duration(now - at))
    } else {
        format!("in {}", duration(at - now))
    }
}

/// `2026-03-01T08:15:30.120Z (12 s ago)`
pub(crate) fn timestamp(at: u64, now: u64) -> String {
    format!("{} ({})", rfc3339(at), relative(at, now))
}

/// `1166 ms`, `0.4 ms`
pub(crate) fn mean_ms(ms: f64) -> String {
    if ms >= 10.0 { format!("{ms:.0} ms") } else { format!("{ms:.1} ms") }
}

/// `98 %`, `99.5 %`: 100 % only if it is exact.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    let tenths = u128::from(part) * 1000 / u128::from(whole);
    if tenths.is_multiple_of(10) {
        format!("{} %", tenths / 10)
    } else {
        format!("{}.{} %", tenths / 10, tenths % 10)
    }
}

/// The number of records that a record blocks. They are counted up to a thousand.
pub(crate) fn blocked_records(number: u64) -> String {
    if number < 1000 { count(number, "record") } else { "at least 1000 records".to_owned() }
}

/// `large_queue` as `large queue`.
pub(crate) fn with_spaces(name: &str) -> String {
    strip_controls(name).replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_formatted_for_people() {
        assert_eq!(count(1, "record"), "1 record");
        assert_eq!(count(0, "record"), "0 records");
        assert_eq!(
            [0, 1023, 1024, 181_200, 2 << 30, u64::MAX].map(size),
            ["0 B", "1023 B", "1.0 KiB", "176.9 KiB", "2.0 GiB", "16777215.9 TiB"]
        );
        assert_eq!(
            [0, 850, 12_900, 192_000, 7_500_000, 273_600_000].map(duration),
            ["0 ms", "850 ms", "12 s", "3 min 12 s", "2 h 5 min", "3 d 4 h"]
        );
        assert_eq!(
            [(199, 200), (1, 1), (9999, 10_000), (0, 0)].map(|(a, b)| percent(a, b)),
            ["99.5 %", "100 %", "99.9 %", "–"]
        );
        assert_eq!([0.44, 1166.2].map(mean_ms), ["0.4 ms", "1166 ms"]);
    }

    #[test]
    fn times_are_relative_to_now() {
        let now = 1_772_352_930_120;
        assert_eq!(relative(now - 12_000, now), "12 s ago");
        assert_eq!(relative(now + 32_000, now), "in 32 s");
        assert_eq!(relative(now + 10, now), "just now");
        assert_eq!(timestamp(now, now), "2026-03-01T08:15:30.120Z (just now)");
    }

    #[test]
    fn lines_are_wrapped_between_words() {
        let id = "01a2162c-6412-73af-b199-eabd8be99da0";
        assert_eq!(
            wrap(&format!("Last batch    {id}"), 40, 14),
            ["Last batch".to_owned(), format!("    {id}")]
        );
        assert_eq!(wrap("  one two three", 9, 4), ["  one two", "    three"]);
        assert_eq!(wrap("", 9, 4), [""]);
        assert_eq!(wrap("x".repeat(12).as_str(), 9, 0), ["xxxxxxxxx", "xxx"]);
    }
}
