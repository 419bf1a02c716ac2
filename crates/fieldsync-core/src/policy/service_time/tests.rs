//! The model with servers of known cost, and with arbitrary input.

use proptest::prelude::*;

use super::*;

const T: Duration = Duration::from_mins(1);

fn load(visits: u32, deals: u32, bytes: u64) -> Load {
    let mut load = Load::default();
    for (name, count) in [("Visits", visits), ("Deals", deals)] {
        for _ in 0..count {
            load.add_record(name, bytes);
        }
    }
    load
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

#[test]
fn nothing_is_known_before_the_first_answer() {
    let model = ServiceTime::default();
    assert!(!model.has_measurements() && !model.has_enough_measurements());
    assert_eq!((model.per_record(), model.estimate_remaining(10, 5)), (None, None));
    assert_eq!(model.largest_next(), None);
}

#[test]
fn each_type_has_a_cost_of_its_own() {
    let mut model = ServiceTime::default();
    for (visits, deals) in [(20, 0), (0, 8), (10, 4), (5, 5), (15, 1)].repeat(6) {
        let took = 2.0 + 0.5 * f64::from(visits) + 2.5 * f64::from(deals);
        model.record_response(&load(visits, deals, 1024), Measured::alone(seconds(took)), T);
    }
    for (visits, deals, expected) in [(20, 0, 12.0), (0, 10, 27.0), (10, 5, 19.5)] {
        let mean = model.forecast(&load(visits, deals, 1024)).mean;
        assert!((mean - expected).abs() < 0.1 * expected, "{visits}, {deals}: {mean} for {expected}");
    }
}

#[test]
fn a_server_that_became_three_times_slower_is_believed_after_two_batches() {
    let mut model = ServiceTime::default();
    let batch = load(25, 0, 300);
    for _ in 0..20 {
        model.record_response(&batch, Measured::alone(seconds(12.0)), T);
    }
    model.record_response(&batch, Measured::alone(seconds(36.0)), T);
    model.record_response(&batch, Measured::alone(seconds(36.0)), T);
    let mean = model.forecast(&batch).mean;
    assert!(mean > 30.0, "{mean}");
}

#[test]
fn a_time_out_halves_at_once_and_answers_give_back() {
    let mut model = ServiceTime::default();
    model.record_fit(40, seconds(30.0));
    assert_eq!(model.largest_next(), Some(80));
    model.record_timeout(40);
    assert_eq!(model.largest_next(), Some(20));
    model.record_fit(5, seconds(5.0));
    assert_eq!(model.largest_next(), Some(20), "a small batch proves nothing");
    model.record_fit(20, seconds(15.0));
    assert_eq!(model.largest_next(), Some(40));
    model.record_timeout(1);
    assert_eq!(model.largest_next(), Some(1));
}

#[test]
fn a_quick_server_is_no_riddle_after_its_first_answer() {
    for (limit, took) in [(60.0, 0.002), (60.0, 0.05), (2.0, 0.002), (2.0, 0.05)] {
        let mut model = ServiceTime::default();
        model.record_response(&load(25, 0, 20), Measured::alone(seconds(took)), seconds(limit));
        let most = model.forecast(&load(25, 0, 20)).upper;
        assert!(most < limit, "{took} s of {limit} s: {most} s at most");
    }
}

#[test]
fn an_estimate_counts_start_up_once_a_batch() {
    let mut model = ServiceTime::default();
    for visits in [10, 20, 30, 25, 15] {
        model.record_response(&load(visits, 0, 0), Measured::alone(seconds(2.0 + f64::from(visits))), T);
    }
    let estimate = model.estimate_remaining(100, 20).unwrap().as_secs_f64();
    assert!((estimate - 110.0).abs() < 5.0, "{estimate}");
}

#[test]
fn what_is_kept_is_what_is_known() {
    let mut model = ServiceTime::default();
    for deals in [3, 1, 7] {
        model.record_response(&load(5, deals, 700), Measured::alone(seconds(4.5)), T);
    }
    model.record_timeout(12);
    let kept = serde_json::to_vec(&model).unwrap();
    let back: ServiceTime = serde_json::from_slice(&kept).unwrap();
    let (before, after) = (model.forecast(&load(10, 10, 500)), back.forecast(&load(10, 10, 500)));
    assert!((before.mean - after.mean).abs() < 1e-9 && (before.upper - after.upper).abs() < 1e-9);
    assert_eq!((back.largest_next(), back.has_enough_measurements()), (model.largest_next(), true));
}

proptest! {
    #[test]
    fn it_stays_sane_whatever_it_meets(
        batches in prop::collection::vec((0u32..60, 0u32..60, 0u64..1 << 20, 0.0f64..1e4, 0u8..4), 1..120),
        under_way in 1.0f64..8.0,
    ) {
        let mut model = ServiceTime::default();
        for (visits, deals, bytes, took, kind) in batches {
            let batch = load(visits, deals, bytes);
            match kind {
                0 => model.record_timeout(batch.records()),
                1 => {
                    let measured = Measured { inexact: seconds(took * 0.15), under_way, ..Measured::alone(seconds(took)) };
                    model.record_completion(&batch, measured, T);
                }
                _ => model.record_response(&batch, Measured::alone(seconds(if kind == 2 { took } else { took / 1e7 })), T),
            }
            let Forecast { mean, upper } = model.forecast(&batch);
            prop_assert!(mean >= 0.0 && upper >= mean && upper.is_finite(), "{} {}", mean, upper);
            prop_assert!(model.largest_next().is_none_or(|records| records > 0));
        }
    }
}
