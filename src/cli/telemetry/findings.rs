//! What the measurements say, in a sentence for each question: on the page and in the terminal.

use std::fmt::Write as _;

use super::words::{
    class_name, hour_range, interface_name, number, percent_of, rate, ratio, share, short_duration, to_f64,
};
use crate::api::{FailureReport, Outcomes, TelemetryReport};
use crate::hidden::replace_hidden;

/// Fewer batches say little about their size.
const BATCHES_MIN: u64 = 5;
/// A smaller share of timeouts is not worth a sentence.
const TIMEOUT_SHARE_MIN: f64 = 0.05;
/// A smaller difference between expected and measured durations is a good estimate.
const GOOD_ESTIMATE: f64 = 0.15;

/// How long records take.
pub(super) fn describe_durations(report: &TelemetryReport) -> Option<String> {
    let each = report.per_record;
    (each.records > 0).then(|| {
        format!(
            "Half of the records took {} or less, and 95 of 100 took {} or less.",
            short_duration(to_f64(each.p50_ms)),
            short_duration(to_f64(each.p95_ms))
        )
    })
}

/// Which batch sizes get through, and which is the fastest.
pub(super) fn describe_sizes(report: &TelemetryReport) -> Option<String> {
    let sizes = || report.by_batch_size.iter().map(|bucket| (bucket.size.as_str(), &bucket.outcomes));
    let (sent, succeeded) = sizes().fold((0, 0), |(sent, succeeded), (_, outcomes)| {
        (sent + outcomes.batches, succeeded + outcomes.succeeded)
    });
    if sent == 0 {
        return None;
    }
    let timeout_share = |outcomes: &Outcomes| ratio(outcomes.timeouts, outcomes.batches).unwrap_or_default();
    let worst = sizes()
        .filter(|(_, outcomes)| outcomes.batches >= BATCHES_MIN)
        .max_by(|(_, a), (_, b)| timeout_share(a).total_cmp(&timeout_share(b)))
        .filter(|(_, outcomes)| timeout_share(outcomes) >= TIMEOUT_SHARE_MIN);
    let first = match worst {
        Some((size, outcomes)) => format!(
            "Batches of {} got no response in time most often: {} of {} ({}).",
            records_of(size),
            number(outcomes.timeouts),
            number(outcomes.batches),
            percent_of(outcomes.timeouts, outcomes.batches)
        ),
        None => format!("{} of {} batches got through.", percent_of(succeeded, sent), number(sent)),
    };
    let fastest = fastest_of(sizes()).map(|(fastest, rate)| match fastest {
        Fastest::One(size) => {
            format!(" The most records per second got through in batches of {} ({rate}).", records_of(size))
        }
        Fastest::Several(sizes) => {
            format!(" The most records per second got through in batches of {sizes} records ({rate} each).")
        }
        Fastest::AllEqual => format!(" In batches of all sizes, {rate} records per second got through."),
    });
    Some(first + &fastest.unwrap_or_default())
}

/// How many batches at once are the fastest.
pub(super) fn describe_in_flight(report: &TelemetryReport) -> Option<String> {
    let (fastest, rate) =
        fastest_of(report.by_in_flight.iter().map(|bucket| (bucket.in_flight.as_str(), &bucket.outcomes)))?;
    let batches = match fastest {
        Fastest::One("1") => "a single batch".to_owned(),
        Fastest::One(at_once) => format!("{} batches", clean(at_once)),
        Fastest::Several(numbers) => {
            return Some(format!(
                "The most records per second got through with {numbers} batches under way ({rate} each)."
            ));
        }
        Fastest::AllEqual => {
            return Some(format!(
                "However many batches were under way, {rate} records per second got through."
            ));
        }
    };
    Some(format!("The most records per second got through with {batches} under way ({rate})."))
}

/// Which type causes the most delay.
pub(super) fn describe_types(report: &TelemetryReport) -> Option<String> {
    let records: u64 = report.by_type.iter().map(|one| one.records).sum();
    let costliest = report.by_type.iter().max_by(|a, b| a.delay_share.total_cmp(&b.delay_share))?;
    if costliest.delay_share > 0.0 {
        return Some(format!(
            "{} took {} of the time, with {} of the records; one took {}.",
            clean(&costliest.record_type),
            share(costliest.delay_share),
            percent_of(costliest.records, records),
            short_duration(costliest.ms_per_record)
        ));
    }
    // Daemons before 0.2 report no shares.
    let slowest = report.by_type.iter().max_by(|a, b| a.ms_per_record.total_cmp(&b.ms_per_record))?;
    (records > 0).then(|| {
        format!(
            "Records of the type {} took longest: {} each.",
            clean(&slowest.record_type),
            short_duration(slowest.ms_per_record)
        )
    })
}

/// How sending failed, over which network and at which hour.
pub(super) fn describe_failures(report: &TelemetryReport) -> Option<String> {
    let total: u64 = report.failures.iter().map(|failure| failure.count).sum();
    let most = report.failures.iter().max_by_key(|failure| failure.count)?;
    let mut text = format!(
        "Sending failed {}, most often with: {} ({}).",
        if total == 1 { "once".to_owned() } else { format!("{} times", number(total)) },
        class_name(&most.class),
        number(most.count)
    );
    if let Some((interface, count)) = failures_by_interface(&report.failures).first() {
        let (count, total) = (number(*count), number(total));
        write!(text, " {count} of {total} over {}.", interface_name(interface)).ok();
    }
    let hours = failures_by_hour(&report.failures);
    if let Some((hour, count)) =
        (0..).zip(hours).max_by_key(|(hour, count)| (*count, std::cmp::Reverse(*hour)))
        && count > 1
    {
        write!(text, " Most between {} ({}).", hour_range(hour), number(count)).ok();
    }
    Some(text)
}

/// How far the expected durations of batches are from the measured ones.
pub(super) fn describe_estimates(report: &TelemetryReport) -> Option<String> {
    let (mut expected, mut measured, mut batches) = (0.0, 0.0, 0);
    for bucket in &report.by_batch_size {
        if let (Some(one), Some(other)) = (bucket.expected_ms, bucket.mean_ms) {
            expected += one * to_f64(bucket.expected);
            measured += other * to_f64(bucket.expected);
            batches += bucket.expected;
        }
    }
    if batches == 0 || expected <= 0.0 {
        return None;
    }
    let difference = measured / expected - 1.0;
    Some(match difference {
        difference if difference.abs() < GOOD_ESTIMATE => {
            format!("The daemon expects durations well: on average they are within {}.", share(GOOD_ESTIMATE))
        }
        difference if difference > 0.0 => {
            format!("Batches took {} longer than the daemon expected, on average.", share(difference))
        }
        difference => {
            format!("Batches took {} less time than the daemon expected, on average.", share(-difference))
        }
    })
}

/// The failures over each kind of network, the most frequent first.
pub(super) fn failures_by_interface(failures: &[FailureReport]) -> Vec<(String, u64)> {
    let mut sums: Vec<(String, u64)> = Vec::new();
    for one in failures.iter().flat_map(|failure| &failure.interfaces) {
        match sums.iter_mut().find(|(name, _)| *name == one.interface) {
            Some((_, count)) => *count += one.count,
            None => sums.push((one.interface.clone(), one.count)),
        }
    }
    sums.sort_by(|(a, more), (b, less)| less.cmp(more).then_with(|| a.cmp(b)));
    sums
}

/// The failures at each hour of the day.
pub(super) fn failures_by_hour(failures: &[FailureReport]) -> [u64; 24] {
    let mut sums = [0; 24];
    for failure in failures {
        for (sum, count) in sums.iter_mut().zip(&failure.by_hour) {
            *sum += count;
        }
    }
    sums
}

/// What has the highest rate.
enum Fastest<'a> {
    One(&'a str),
    /// Their names as a list.
    Several(String),
    AllEqual,
}

/// With the highest rate as it is shown, among those with enough batches. One alone is not the fastest of several.
fn fastest_of<'a>(buckets: impl Iterator<Item = (&'a str, &'a Outcomes)>) -> Option<(Fastest<'a>, String)> {
    let rates: Vec<(&str, f64)> = buckets
        .filter(|(_, outcomes)| outcomes.batches >= BATCHES_MIN)
        .filter_map(|(name, outcomes)| Some((name, outcomes.records_per_s?)))
        .collect();
    let (_, highest) = rates.iter().copied().max_by(|(_, a), (_, b)| a.total_cmp(b))?;
    let shown = rate(Some(highest));
    let fastest: Vec<&str> =
        rates.iter().filter(|(_, one)| rate(Some(*one)) == shown).map(|(name, _)| *name).collect();
    let fastest = match fastest[..] {
        _ if rates.len() < 2 => return None,
        [one] => Fastest::One(one),
        _ if fastest.len() == rates.len() => Fastest::AllEqual,
        [ref firsts @ .., last] => {
            Fastest::Several(format!("{} and {}", clean(&firsts.join(", ")), clean(last)))
        }
        [] => return None,
    };
    Some((fastest, shown))
}

fn records_of(size: &str) -> String {
    if size == "1" { "one record".to_owned() } else { format!("{} records", clean(size)) }
}

fn clean(text: &str) -> String {
    replace_hidden(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples::telemetry_week;

    #[test]
    fn each_question_has_a_sentence() {
        let week = telemetry_week();
        assert_eq!(
            [
                describe_durations(&week),
                describe_sizes(&week),
                describe_in_flight(&week),
                describe_types(&week),
                describe_failures(&week),
                describe_estimates(&week),
            ]
            .map(Option::unwrap),
            [
                "Half of the records took 390 ms or less, and 95 of 100 took 2.2 s or less.",
                "Batches of 51–100 records got no response in time most often: 4 of 9 (44 %). The most records per \
                 second got through in batches of 26–50 records (3.8).",
                "The most records per second got through with 3–4 batches under way (4.1).",
                "Photos took 53 % of the time, with 8 % of the records; one took 4.1 s.",
                "Sending failed 27 times, most often with: no response in time (15). 19 of 27 over a mobile network. \
                 Most between 08:00 and 09:00 (7).",
                "The daemon expects durations well: on average they are within 15 %.",
            ]
        );
    }

    #[test]
    fn equal_rates_have_no_winner() {
        let mut week = telemetry_week();
        for bucket in &mut week.by_in_flight {
            bucket.outcomes.batches = BATCHES_MIN;
            bucket.outcomes.records_per_s = Some(3.31);
        }
        week.by_in_flight[0].outcomes.records_per_s = Some(3.29);
        assert_eq!(
            describe_in_flight(&week).unwrap(),
            "However many batches were under way, 3.3 records per second got through."
        );
        for bucket in &mut week.by_in_flight[2..] {
            bucket.outcomes.records_per_s = Some(1.0);
        }
        assert_eq!(
            describe_in_flight(&week).unwrap(),
            "The most records per second got through with 1 and 2 batches under way (3.3 each)."
        );
    }

    #[test]
    fn digits_of_large_numbers_are_grouped_in_sentences() {
        let mut week = telemetry_week();
        week.by_batch_size[0].outcomes.batches = 50_000;
        week.by_batch_size[0].outcomes.timeouts = 25_000;
        week.failures[0].count = 25_000;
        let text = describe_sizes(&week).unwrap();
        assert!(text.contains("most often: 25,000 of 50,000 (50 %)."), "{text}");
        let text = describe_failures(&week).unwrap();
        assert!(text.contains("(25,000)"), "{text}");
    }

    #[test]
    fn without_data_there_is_no_sentence() {
        let none = TelemetryReport::default();
        let sentences = [
            describe_durations(&none),
            describe_sizes(&none),
            describe_in_flight(&none),
            describe_types(&none),
            describe_failures(&none),
            describe_estimates(&none),
        ];
        assert!(sentences.iter().all(Option::is_none), "{sentences:?}");
    }

    #[test]
    fn without_shares_the_slowest_type_is_named() {
        let mut week = telemetry_week();
        week.by_type.iter_mut().for_each(|one| one.delay_share = 0.0);
        let text = describe_types(&week).unwrap();
        assert_eq!(text, "Records of the type Photos took longest: 4.1 s each.");
    }

    #[test]
    fn a_wrong_expectation_is_said_with_its_direction() {
        let mut week = telemetry_week();
        for bucket in &mut week.by_batch_size {
            bucket.expected_ms = bucket.mean_ms.map(|ms| ms * 2.0);
        }
        let text = describe_estimates(&week).unwrap();
        assert_eq!(text, "Batches took 50 % less time than the daemon expected, on average.");
    }
}
