//! Header fields: when to retry, and what the server asks of the next batches.

use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::digest::{Fields, WALL_MS, decoded};
use crate::protocol::exchange::ServerHints;
use crate::protocol::wire;

/// Unusual values for every field.
pub(super) fn fields() -> impl Strategy<Value = Fields> {
    let number = || {
        prop_oneof![
            any::<u64>().prop_map(|number| number.to_string()),
            any::<i64>().prop_map(|number| number.to_string()),
            any::<f64>().prop_map(|number| number.to_string()),
            prop::sample::select(vec![
                "",
                "0",
                "-0",
                "+1",
                "1",
                "1e9",
                " 7 ",
                "0x10",
                "18446744073709551616"
            ])
            .prop_map(str::to_owned),
            "[0-9]{0,40}",
            ".{0,9}",
        ]
    };
    let date = || {
        prop_oneof![
            (0u64..300_000_000_000).prop_map(|seconds| {
                httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds.min(253_402_300_799)))
            }),
            number(),
        ]
    };
    (prop_oneof![number(), date()], date(), number(), number(), number(), number(), ".{0,20}").prop_map(
        |(retry_after, date, records, bytes, in_flight, time, accepts)| {
            vec![
                ("retry-after", retry_after),
                ("date", date),
                (wire::MAX_RECORDS, records),
                (wire::MAX_BYTES, bytes),
                (wire::MAX_IN_FLIGHT, in_flight),
                (wire::TIME_BUDGET_MS, time),
                ("accept-encoding", accepts),
            ]
        },
    )
}

fn retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    let mut fields = vec![("retry-after", value.to_owned())];
    fields.extend(date.map(|date| ("date", date.to_owned())));
    decoded(429, &fields, b"").response.retry_after
}

#[test]
fn retry_after_is_seconds_or_a_date_and_anything_else_is_ignored() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    for (value, expected) in [
        ("7", seconds(7)),
        (" 007 ", seconds(7)),
        ("0", seconds(0)),
        ("18446744073709551615", seconds(u64::MAX)),
        ("99999999999999999999999", seconds(u64::MAX)),
        ("Sun, 01 Mar 2026 08:16:30 GMT", seconds(60)),
        ("Sunday, 01-Mar-26 08:16:30 GMT", seconds(60)),
        ("Sun Mar  1 08:16:30 2026", seconds(60)),
        ("Sun, 01 Mar 2026 08:15:00 GMT", seconds(0)),
        ("Thu, 01 Jan 1970 00:00:00 GMT", seconds(0)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", seconds(253_402_300_799 - WALL_MS / 1000)),
        ("Mon, 01 Jan 0001 00:00:00 GMT", None),
        ("Sun, 32 Mar 2026 08:16:30 GMT", None),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        ("1e3", None),
        ("7, 8", None),
        ("soon", None),
        ("", None),
    ] {
        assert_eq!(retry_after(value, None), expected, "{value:?}");
    }
}

#[test]
fn a_retry_date_counts_from_the_date_of_the_response_if_the_clocks_differ() {
    let come_back = "Thu, 01 Jan 2032 00:01:00 GMT";
    for (date, expected) in [
        ("Thu, 01 Jan 2032 00:00:30 GMT", 30),
        ("Thu, 01 Jan 2032 00:02:00 GMT", 0),
        ("yesterday", 1_956_528_060 - WALL_MS / 1000),
    ] {
        let expected = Some(Duration::from_secs(expected));
        assert_eq!(retry_after(come_back, Some(date)), expected, "{date:?}");
    }
}

#[test]
fn a_hint_must_be_a_number_above_0() {
    for (value, expected) in [
        ("1", Some(1)),
        (" 25 ", Some(25)),
        ("18446744073709551615", Some(u64::MAX)),
        ("18446744073709551616", None),
        ("0", None),
        ("-1", None),
        ("2.5", None),
        ("1e3", None),
        ("", None),
        ("many", None),
    ] {
        let names = [wire::MAX_RECORDS, wire::MAX_BYTES, wire::MAX_IN_FLIGHT, wire::TIME_BUDGET_MS];
        let fields = names.map(|name| (name, value.to_owned())).to_vec();
        let hints = ServerHints {
            max_records: expected.and_then(|number| usize::try_from(number).ok()),
            max_bytes: expected,
            max_in_flight: expected.and_then(|number| usize::try_from(number).ok()),
            time_budget: expected.map(Duration::from_millis),
            holds_keys: false,
        };
        assert_eq!(decoded(503, &fields, b"").hints, hints, "{value:?}");
    }
}

#[test]
fn a_server_holds_keys_only_if_it_says_so() {
    for (value, expected) in
        [("true", true), (" True ", true), ("false", false), ("1", false), ("", false), ("true, true", false)]
    {
        let fields = vec![(wire::HOLDS_KEYS, value.to_owned())];
        assert_eq!(decoded(200, &fields, b"").hints.holds_keys, expected, "{value:?}");
    }
    assert!(!decoded(200, &Vec::new(), b"").hints.holds_keys);
}
