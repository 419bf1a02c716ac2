//! Explains in words why a batch has its size, and why as many are under way. The journal, the tables and the status use
//! the same wording, so that people recognise a batch in each of them.

use super::{BatchReport, Batching, OpenEnum};
use crate::model::{BatchId, InFlightRule, SizeRule};

/// Characters of a batch id in texts: enough to find the batch in the journal.
const SHORT_ID_CHARS: usize = 8;

impl BatchReport {
    /// Why it had its size: `learned: 27.3 s expected, 33.0 s at most, limit 1 min`,
    /// `split of 3f2a91bc`, or the rule and the size if nothing was learned yet: `large queue: 25`.
    pub fn describe_size(&self) -> String {
        if let Some(parent) = self.parent.filter(|_| self.rule == SizeRule::Split) {
            return format!("split of {}", short_id(parent));
        }
        let forecast = describe_forecast(self.expected_ms, self.at_most_ms);
        let limit = match self.time_limit_ms {
            limit if limit > 0 && forecast.is_some() => format!(", limit {}", format_limit(limit)),
            _ => String::new(),
        };
        let renamed =
            self.parent.map_or_else(String::new, |parent| format!(", sent before as {}", short_id(parent)));
        format!("{}{limit}{renamed}", describe_rule(&self.rule, Some(self.records), forecast))
    }

    /// How many batches were under way with it, and why not more: `3 batches at once (measured)`
    pub fn describe_in_flight(&self) -> String {
        let batches = match self.in_flight {
            0 | 1 => "no other batch beside it".to_owned(),
            batches => format!("{batches} batches at once"),
        };
        format!("{batches} ({})", describe_in_flight_rule(&self.in_flight_rule))
    }

    /// What was done about it, without the HTTP status, which is shown beside the outcome.
    pub fn describe_result(&self) -> &str {
        let without = |status| self.note.strip_prefix(&format!("the server responded with HTTP {status}: "));
        self.http_status.and_then(without).unwrap_or(&self.note)
    }
}

impl Batching {
    /// Why the next batch will have its size, which is shown beside it:
    /// `learned: 27.3 s expected, 33.0 s at most; the server's limit is 40 s`.
    pub fn explain_size(&self) -> String {
        let limit = match self.time_limit_ms {
            0 => String::new(),
            limit => format!("; the server's limit is {}", format_limit(limit)),
        };
        describe_rule(&self.rule, None, describe_forecast(self.expected_ms, self.at_most_ms)) + &limit
    }

    /// How many batches are under way, and how many may be: `2 of at most 4 batches under way (measured)`
    pub fn explain_in_flight(&self) -> String {
        let (in_flight, limit) = (self.in_flight, self.in_flight_limit);
        let batches = if limit == 1 { "batch" } else { "batches" };
        let rule = describe_in_flight_rule(&self.in_flight_rule);
        format!("{in_flight} of at most {limit} {batches} under way ({rule})")
    }
}

/// The rule, the size if the forecast does not explain it, and how long such a batch takes.
fn describe_rule(rule: &OpenEnum<SizeRule>, records: Option<usize>, forecast: Option<String>) -> String {
    // The learned rule decides a time, and the size follows from it. Other rules decide the size.
    let records = records.filter(|_| *rule != SizeRule::Learned || forecast.is_none());
    let reasons: Vec<String> =
        records.map(|records| records.to_string()).into_iter().chain(forecast).collect();
    let rule = rule_name(rule);
    if reasons.is_empty() { rule } else { format!("{rule}: {}", reasons.join(", ")) }
}

fn rule_name(rule: &OpenEnum<SizeRule>) -> String {
    match rule.known() {
        Some(SizeRule::Micro) => "micro-batch".to_owned(),
        Some(SizeRule::ServerHint) => "the server's wish".to_owned(),
        _ => rule.to_string().replace('_', " "),
    }
}

/// Why no more batches may be under way at once.
pub fn describe_in_flight_rule(rule: &OpenEnum<InFlightRule>) -> String {
    let words = match rule.known() {
        Some(InFlightRule::Configured) => "as configured",
        Some(InFlightRule::ServerHint) => "the server's wish",
        Some(InFlightRule::Throttled) => "the server rejected more",
        Some(InFlightRule::Measured) => "measured",
        Some(InFlightRule::Trial) => "more are being tried",
        Some(InFlightRule::Breaker) => "the server fails",
        Some(InFlightRule::FirstMeasurements) => "too little is measured yet",
        Some(InFlightRule::NotNeeded) => "more are not needed",
        None => return rule.to_string().replace('_', " "),
    };
    words.to_owned()
}

fn describe_forecast(expected_ms: Option<u64>, at_most_ms: Option<u64>) -> Option<String> {
    let expected = expected_ms.map(|ms| format!("{} expected", format_estimate(ms)));
    let at_most = at_most_ms.map(|ms| format!("{} at most", format_estimate(ms)));
    let parts: Vec<String> = expected.into_iter().chain(at_most).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// An estimate: `850 ms`, `27.3 s`, `1 min 12 s`
fn format_estimate(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..59_950 => {
            let tenths = (ms + 50) / 100;
            format!("{}.{} s", tenths / 10, tenths % 10)
        }
        _ => format_minutes(ms.saturating_add(500) / 1000),
    }
}

/// A limit, as it is written in the configuration: `850 ms`, `2.5 s`, `40 s`, `1 min`
fn format_limit(ms: u64) -> String {
    match ms {
        1000..60_000 if ms.is_multiple_of(1000) => format!("{} s", ms / 1000),
        _ => format_estimate(ms),
    }
}

fn format_minutes(seconds: u64) -> String {
    match (seconds / 60, seconds % 60) {
        (minutes, 0) => format!("{minutes} min"),
        (minutes, seconds) => format!("{minutes} min {seconds} s"),
    }
}

/// The first characters of a batch id: enough to find the batch in the journal.
pub fn short_id(id: BatchId) -> String {
    id.to_string().chars().take(SHORT_ID_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples::{sample_parent, sample_report};

    #[test]
    fn the_report_of_a_batch_explains_its_size() {
        let times = Some((27_300, 33_000));
        for (rule, parent, times, limit, expected) in [
            (
                OpenEnum::Known(SizeRule::Learned),
                None,
                times,
                60_000,
                "learned: 27.3 s expected, 33.0 s at most, limit 1 min",
            ),
            (OpenEnum::Known(SizeRule::Learned), None, times, 0, "learned: 27.3 s expected, 33.0 s at most"),
            (
                OpenEnum::Known(SizeRule::Learned),
                None,
                Some((62, 149)),
                2500,
                "learned: 62 ms expected, 149 ms at most, limit 2.5 s",
            ),
            (
                OpenEnum::Known(SizeRule::Learned),
                None,
                Some((59_960, 72_400)),
                90_000,
                "learned: 1 min expected, 1 min 12 s at most, limit 1 min 30 s",
            ),
            (OpenEnum::Known(SizeRule::Learned), None, None, 60_000, "learned: 25"),
            (OpenEnum::Known(SizeRule::LargeQueue), None, None, 60_000, "large queue: 25"),
            (OpenEnum::Known(SizeRule::LargePayload), None, None, 60_000, "large payload: 25"),
            (OpenEnum::Known(SizeRule::Standard), None, None, 60_000, "standard: 25"),
            (
                OpenEnum::Known(SizeRule::Standard),
                None,
                times,
                40_000,
                "standard: 25, 27.3 s expected, 33.0 s at most, limit 40 s",
            ),
            (OpenEnum::Known(SizeRule::Micro), None, None, 60_000, "micro-batch: 25"),
            (OpenEnum::Known(SizeRule::ServerHint), None, None, 60_000, "the server's wish: 25"),
            (OpenEnum::Unknown("of_tomorrow".into()), None, None, 60_000, "of tomorrow: 25"),
            (OpenEnum::Known(SizeRule::Split), Some(sample_parent()), times, 60_000, "split of 3f2a91bc"),
            (OpenEnum::Known(SizeRule::Split), None, None, 60_000, "split: 25"),
            (
                OpenEnum::Known(SizeRule::Standard),
                Some(sample_parent()),
                None,
                60_000,
                "standard: 25, sent before as 3f2a91bc",
            ),
        ] {
            let report = BatchReport {
                expected_ms: times.map(|(expected, _)| expected),
                at_most_ms: times.map(|(_, most)| most),
                time_limit_ms: limit,
                ..sample_report(rule, parent)
            };
            assert_eq!(report.describe_size(), expected);
        }
    }

    #[test]
    fn the_status_explains_the_size_of_the_next_batch() {
        for (rule, expected_ms, at_most_ms, time_limit_ms, expected) in [
            (
                OpenEnum::Known(SizeRule::Learned),
                Some(27_300),
                Some(33_000),
                40_000,
                "learned: 27.3 s expected, 33.0 s at most; the server's limit is 40 s",
            ),
            (
                OpenEnum::Known(SizeRule::LargeQueue),
                None,
                None,
                60_000,
                "large queue; the server's limit is 1 min",
            ),
            (
                OpenEnum::Known(SizeRule::Micro),
                Some(900),
                None,
                60_000,
                "micro-batch: 900 ms expected; the server's limit is 1 min",
            ),
            (OpenEnum::Known(SizeRule::Standard), None, None, 0, "standard"),
        ] {
            let batching = Batching {
                size: 23,
                rule,
                ms_per_record: None,
                expected_ms,
                at_most_ms,
                time_budget_ms: 30_000,
                time_limit_ms,
                in_flight: 0,
                in_flight_limit: 1,
                in_flight_rule: InFlightRule::Configured.into(),
            };
            assert_eq!(batching.explain_size(), expected);
        }
    }

    #[test]
    fn the_number_of_batches_under_way_is_explained() {
        for (in_flight, limit, rule, of_status, of_batch) in [
            (
                2,
                4,
                OpenEnum::Known(InFlightRule::Measured),
                "2 of at most 4 batches under way (measured)",
                "2 batches at once (measured)",
            ),
            (
                1,
                1,
                OpenEnum::Known(InFlightRule::Configured),
                "1 of at most 1 batch under way (as configured)",
                "no other batch beside it (as configured)",
            ),
            (
                3,
                3,
                OpenEnum::Unknown("of_tomorrow".into()),
                "3 of at most 3 batches under way (of tomorrow)",
                "3 batches at once (of tomorrow)",
            ),
        ] {
            let batching = Batching {
                size: 23,
                rule: SizeRule::Standard.into(),
                ms_per_record: None,
                expected_ms: None,
                at_most_ms: None,
                time_budget_ms: 30_000,
                time_limit_ms: 0,
                in_flight,
                in_flight_limit: limit,
                in_flight_rule: rule.clone(),
            };
            assert_eq!(batching.explain_in_flight(), of_status);
            let report =
                BatchReport { in_flight, in_flight_rule: rule, ..sample_report(SizeRule::Standard, None) };
            assert_eq!(report.describe_in_flight(), of_batch);
        }
    }

    #[test]
    fn the_result_does_not_repeat_the_http_status() {
        for (status, note, expected) in [
            (Some(504), "the server responded with HTTP 504: cut into 7 parts", "cut into 7 parts"),
            (Some(503), "busy: it waits to be sent again", "busy: it waits to be sent again"),
            (
                None,
                "connection refused: it waits to be sent again",
                "connection refused: it waits to be sent again",
            ),
            (Some(200), "a result for each record", "a result for each record"),
        ] {
            let report = BatchReport {
                http_status: status,
                note: note.into(),
                ..sample_report(OpenEnum::Known(SizeRule::Standard), None)
            };
            assert_eq!(report.describe_result(), expected);
        }
    }
}
