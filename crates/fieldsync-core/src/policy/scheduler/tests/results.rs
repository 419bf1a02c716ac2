//! What the results of records mean for the records and for the time at which they are sent again.

use proptest::prelude::*;

use super::*;
use crate::protocol::receipt::Receipt;

const MAX_RETRY_AFTER: Duration = Duration::from_mins(20);

fn result_of(number: u128, status: RecordStatus) -> RecordResult {
    RecordResult::new(RecordId(Uuid::from_u128(number)), status)
}

/// The disposition of a batch with these results, given as its response or to an outcome query.
fn close_with(results: Vec<RecordResult>, is_queried: bool) -> (Vec<Outcome>, Outcome, Duration) {
    let open = batch(results.len().max(1), BatchPhase::InFlight);
    let mut planner = TestPlanner::sent(&open);
    planner.config.retry.max_retry_after.0 = MAX_RETRY_AFTER;
    let disposition = if is_queried {
        planner.respond_to(&open, &Verdict::Ambiguous(Ambiguity::TimedOut));
        let reply = OutcomeReply::Completed(results);
        planner.with_view(|scheduler, view| scheduler.on_outcome_reply(view, open.id, &reply)).unwrap()
    } else {
        planner.respond_to(&open, &Verdict::Completed(results))
    };
    let Disposition::Close { outcomes, missing, retry_after } = disposition else { panic!("closed") };
    (outcomes.into_iter().map(|(_, outcome)| outcome).collect(), missing, retry_after)
}

#[test]
fn a_response_settles_each_record_by_its_own_result() {
    use RecordStatus::{Applied, Duplicate, Rejected, Retry};
    let results = [(1, Applied), (2, Duplicate), (3, Rejected), (4, Retry)].map(|(n, s)| result_of(n, s));
    let (outcomes, missing, retry_after) = close_with(results.into(), false);
    let kind_of = |outcome: &Outcome| match outcome {
        Outcome::Synced(None) => 's',
        Outcome::Quarantine(error) if error.class == "rejected" => 'q',
        Outcome::Retry(error) if error.class == "retry" => 'r',
        _ => '?',
    };
    let kinds: Vec<_> = outcomes.iter().map(kind_of).collect();
    assert_eq!(kinds, ['s', 's', 'q', 'r']);
    assert!(matches!(missing, Outcome::Retry(error) if error.class == "no_result"));
    assert_eq!(retry_after, Duration::ZERO);
}

#[test]
fn a_record_keeps_the_receipt_or_the_faulty_field_of_its_result() {
    let receipt = Receipt::parse(r#"{"id":"4150868000000123"}"#);
    let full = |status| RecordResult {
        receipt: receipt.clone(),
        field: Some(format!("/Amount\n{}", "x".repeat(500))),
        ..result_of(1, status)
    };
    let outcome_with = |status| close_with(vec![full(status)], false).0.remove(0);
    for status in [RecordStatus::Applied, RecordStatus::Duplicate] {
        assert_eq!(outcome_with(status), Outcome::Synced(receipt.clone()), "{status:?}");
    }
    let Outcome::Quarantine(error) = outcome_with(RecordStatus::Rejected) else { panic!("rejected") };
    let field = error.field.unwrap();
    assert!(field.starts_with("/Amount\u{fffd}x") && field.chars().count() == 200, "{field}");
    let Outcome::Retry(error) = outcome_with(RecordStatus::Retry) else { panic!("retry") };
    assert_eq!(error.field, None, "a record that is sent again is not at fault");
}

#[test]
fn records_wait_as_long_as_the_server_asks_but_not_longer_than_configured() {
    use RecordStatus::{Applied, Rejected, Retry};
    let limit = MAX_RETRY_AFTER.as_secs();
    for (asked, expected) in [
        (vec![], 0),
        (vec![(Retry, None)], 0),
        (vec![(Retry, Some(0))], 0),
        (vec![(Retry, Some(7))], 7),
        (vec![(Retry, Some(7)), (Retry, Some(30)), (Retry, None)], 30),
        (vec![(Applied, Some(7)), (Rejected, Some(8))], 0),
        (vec![(Applied, Some(90)), (Retry, Some(5))], 5),
        (vec![(Retry, Some(limit + 1))], limit),
        (vec![(Retry, Some(u64::MAX)), (Retry, Some(1))], limit),
    ] {
        let results = asked.iter().zip(1..).map(|((status, retry_after_s), number)| RecordResult {
            retry_after_s: *retry_after_s,
            ..result_of(number, *status)
        });
        let results: Vec<_> = results.collect();
        for is_queried in [false, true] {
            let (_, _, retry_after) = close_with(results.clone(), is_queried);
            assert_eq!(retry_after, Duration::from_secs(expected), "{asked:?} {is_queried}");
        }
    }
}

fn any_status() -> impl Strategy<Value = RecordStatus> {
    use RecordStatus::{Applied, Duplicate, Rejected, Retry};
    prop::sample::select(vec![Applied, Duplicate, Rejected, Retry])
}

proptest! {
    /// A wait that the server asks for changes nothing but the wait.
    #[test]
    fn an_asked_wait_is_the_longest_of_the_retried_records_within_the_limit(
        asked in prop::collection::vec((any_status(), prop::option::of(any::<u64>().prop_map(|n| n >> (n % 64)))), 0..12),
        is_queried: bool,
    ) {
        let results = |with_wait: bool| asked.iter().zip(1..).map(|((status, wait), number)| RecordResult {
            retry_after_s: wait.filter(|_| with_wait),
            ..result_of(number, *status)
        }).collect::<Vec<_>>();
        let (outcomes, missing, retry_after) = close_with(results(true), is_queried);
        let (plain_outcomes, plain_missing, no_wait) = close_with(results(false), is_queried);
        prop_assert_eq!((outcomes, missing), (plain_outcomes, plain_missing));
        prop_assert_eq!(no_wait, Duration::ZERO);
        let retried = asked.iter().filter(|(status, _)| *status == RecordStatus::Retry);
        let longest = retried.filter_map(|(_, wait)| *wait).max().unwrap_or(0);
        prop_assert_eq!(retry_after, Duration::from_secs(longest).min(MAX_RETRY_AFTER));
    }
}
