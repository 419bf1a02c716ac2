//! Calls against the limits.

use futures_util::FutureExt;

use super::*;

fn gate(change: impl FnOnce(&mut LimitsMapping)) -> CallGate {
    let mut limits = LimitsMapping {
        max_in_flight: 4,
        small_call_records: Some(10),
        max_large_in_flight: Some(1),
        credits_min: 100,
        ..LimitsMapping::default()
    };
    change(&mut limits);
    CallGate::new(limits, 100, Clock::start())
}

/// As if the wait after a throttled call were over.
fn end_wait(gate: &CallGate) {
    gate.lock().blocked_until = Duration::ZERO;
}

/// A permit, if the call may start at once.
fn enter(gate: &CallGate, records: usize) -> Option<GatePermit<'_>> {
    gate.enter(records).now_or_never()?.ok()
}

#[test]
fn large_calls_have_a_limit_of_their_own() {
    let gate = gate(|_| {});
    let large = enter(&gate, 11).unwrap();
    assert!(enter(&gate, 11).is_none());
    let small: Vec<GatePermit<'_>> = (0..3).map(|_| enter(&gate, 10).unwrap()).collect();
    assert!(enter(&gate, 1).is_none());
    drop((large, small));
    assert!(enter(&gate, 11).is_some());
}

#[test]
fn calls_are_small_while_few_records_are_due_or_large_ones_must_wait() {
    let gate = gate(|_| {});
    assert_eq!([1, 40, 41, 1000].map(|due| gate.choose_call_records(due)), [10, 10, 100, 100]);
    let _large = enter(&gate, 11).unwrap();
    assert_eq!([30, 31, 1000].map(|due| gate.choose_call_records(due)), [10, 10, 10]);
}

#[test]
fn calls_become_smaller_when_they_are_too_large_and_grow_again_slowly() {
    let gate = gate(|limits| limits.small_call_records = None);
    gate.note_too_large(100);
    gate.note_too_large(50);
    assert_eq!(gate.choose_call_records(1000), 25);
    gate.note_answered(24);
    gate.note_answered(25);
    assert_eq!(gate.choose_call_records(1000), 26);
    gate.note_too_large(1);
    assert_eq!(gate.choose_call_records(1000), 26);
}

#[test]
fn a_throttled_call_lowers_the_limit_below_what_was_in_flight() {
    let gate = gate(|_| {});
    let all: Vec<GatePermit<'_>> = (0..4).map(|_| enter(&gate, 1).unwrap()).collect();
    gate.note_throttled(Some(Duration::ZERO), None, true, "busy");
    drop(all);
    end_wait(&gate);
    let fewer: Vec<GatePermit<'_>> = (0..3).map(|_| enter(&gate, 1).unwrap()).collect();
    assert!(enter(&gate, 1).is_none());
    gate.note_throttled(Some(Duration::ZERO), Some(1), true, "busy");
    drop(fewer);
    end_wait(&gate);
    let _one = enter(&gate, 1).unwrap();
    assert!(enter(&gate, 1).is_none());
}

#[test]
fn no_call_starts_before_the_wait_is_over_and_no_wait_is_longer_than_the_limit() {
    let gate = gate(|_| {});
    gate.note_throttled(Some(Duration::from_secs(9)), None, false, "busy");
    let trouble = gate.enter(1).now_or_never().unwrap().err().unwrap();
    assert!(trouble.wait > Duration::from_secs(8) && trouble.reason == "busy");
    assert!(gate.note_throttled(Some(Duration::MAX), None, false, "busy") <= THROTTLE_WAIT_MAX);
    let gate = self::gate(|_| {});
    assert!(gate.note_throttled(Some(Duration::ZERO), None, false, "busy") > Duration::from_millis(400));
}

#[test]
fn responses_that_say_nothing_are_told_and_do_not_hold_calls_up() {
    let gate = gate(|_| {});
    for _ in 0..UNUSABLE_RESPONSES_MAX {
        assert_eq!(gate.trouble(), None);
        gate.note_unusable("status 500");
    }
    let expected = GateTrouble { wait: Duration::ZERO, reason: "status 500".into() };
    assert_eq!(gate.trouble(), Some(expected));
    assert!(enter(&gate, 1).is_some());
    gate.forget_unusable();
    assert_eq!(gate.trouble(), None);
}

#[test]
fn after_calls_without_a_response_single_calls_find_out_whether_there_is_one_again() {
    let gate = gate(|_| {});
    assert_eq!([(); 2].map(|()| gate.note_silence("no route")), [false; 2]);
    gate.note_response();
    assert_eq!([(); 3].map(|()| gate.note_silence("no route")), [false, false, true]);
    let trouble = gate.enter(1).now_or_never().unwrap().err().unwrap();
    assert!(trouble.wait > Duration::ZERO && trouble.wait <= PROBE_DELAY_RANGE.1, "{trouble:?}");
    gate.lock().probe_at = Duration::ZERO;
    // The wait is over: the condition stays until there is a response.
    let over = GateTrouble { wait: Duration::ZERO, reason: "no route".into() };
    assert_eq!(gate.trouble(), Some(over));
    let probe = enter(&gate, 1).unwrap();
    assert!(enter(&gate, 1).is_none());
    gate.note_response();
    assert_eq!(gate.trouble(), None);
    assert!(enter(&gate, 1).is_some());
    drop(probe);
}

#[test]
fn with_few_credits_left_the_gate_says_so() {
    let gate = gate(|_| {});
    gate.note_credits(Some(99));
    assert!(gate.scarcity().is_some() && gate.trouble().is_none());
    gate.note_credits(Some(100));
    assert_eq!(gate.scarcity(), None);
}
