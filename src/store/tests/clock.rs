//! A wall clock that jumps by years changes no due time, no order and no receipt.

use super::support::{HOUR_MS, QueueBench, id, ids, open_queue_in, record, test_error};
use crate::clock::{Now, SteadyClock, wall_ms};
use crate::policy::scheduler::Outcome;

const TWENTY_YEARS_MS: u64 = 20 * 365 * 24 * HOUR_MS;

#[test]
fn jumps_of_the_wall_clock_do_not_change_a_back_off() {
    for wall in [0, 1, TWENTY_YEARS_MS, 100 * TWENTY_YEARS_MS] {
        let mut bench = QueueBench::new();
        bench.append(vec![record(1, None)]);
        let batch = bench.claim(1).unwrap().open.id;
        bench.close_batch(batch, Outcome::Retry(test_error("later")));
        let due = bench.queue_mut().read_backlog().unwrap().next_due_at.unwrap();
        assert!(due > bench.now && due <= bench.now + HOUR_MS, "{due}");
        bench.wall = Some(wall);
        assert!(bench.claim(1).is_none(), "the wall clock does not end the wait");
        let shown = bench.find_entry(id(1)).unwrap().next_attempt_at.unwrap();
        assert_eq!(shown, wall + (due - bench.now), "people see their own clock");
        bench.now = due;
        assert_eq!(ids(&bench.claim(1).unwrap()), [1], "no wait exceeds its time");
    }
}

#[test]
fn order_does_not_depend_on_the_wall_clock() {
    let mut bench = QueueBench::new();
    for (number, wall) in [(1, TWENTY_YEARS_MS), (2, 0), (3, 2 * TWENTY_YEARS_MS), (4, 1)] {
        bench.wall = Some(wall);
        bench.append(vec![record(number, None)]);
    }
    assert_eq!(ids(&bench.claim(10).unwrap()), [1, 2, 3, 4]);
}

#[test]
fn a_receipt_survives_a_jump_of_the_wall_clock() {
    let mut bench = QueueBench::new();
    bench.append(vec![record(1, None)]);
    let batch = bench.claim(1).unwrap().open.id;
    bench.close_batch(batch, Outcome::Synced(None));
    bench.wall = Some(100 * TWENTY_YEARS_MS);
    for number in 10..20 {
        bench.append(vec![record(number, None)]);
        let batch = bench.claim(1).unwrap().open.id;
        bench.close_batch(batch, Outcome::Synced(None));
    }
    assert!(bench.find_entry(id(1)).is_some());
}

/// A device that lost its clock starts in 1970, although its previous run was in 2026.
#[test]
fn a_restart_does_not_make_a_wait_longer() {
    let before = SteadyClock::continue_from(0).now();
    let ahead = before.wall + TWENTY_YEARS_MS;
    let mut bench = QueueBench::new();
    bench.now = ahead;
    bench.append(vec![record(1, None)]);
    let batch = bench.claim(1).unwrap().open.id;
    bench.close_batch(batch, Outcome::Retry(test_error("later")));
    let due = bench.queue_mut().read_backlog().unwrap().next_due_at.unwrap();
    bench.reopen_queue();
    assert_eq!(bench.queue().last_steady(), ahead);
    let steady = SteadyClock::continue_from(bench.queue().last_steady());
    let now = steady.now();
    assert!(now.steady >= ahead, "the steady clock continues where it was");
    assert!(due.saturating_sub(now.steady) <= HOUR_MS, "the wait is what is left of it");
    assert!(now.wall < ahead, "and people see their own clock");
}

#[test]
fn the_steady_clock_never_goes_back() {
    let wall = wall_ms();
    let steady = SteadyClock::continue_from(7);
    let mut last = steady.now();
    assert!(last.steady >= wall, "it starts from the wall clock when that is ahead");
    for _ in 0..1000 {
        let now = steady.now();
        assert!(now.steady >= last.steady);
        last = now;
    }
    let now = Now { steady: 1000, wall: 50 };
    assert_eq!((now.to_wall_ms(1500), now.to_wall_ms(990), now.to_wall_ms(0)), (550, 40, 0));
}

#[test]
fn every_commit_saves_the_steady_time_and_nothing_else_does() {
    let mut bench = QueueBench::new();
    bench.now = 5 * HOUR_MS;
    bench.append(vec![record(1, None)]);
    bench.now = 6 * HOUR_MS;
    bench.append(vec![record(1, None)]);
    let dir = bench.dir.path().to_owned();
    bench.close_queue().unwrap();
    assert_eq!(open_queue_in(&dir).last_steady(), 5 * HOUR_MS, "a duplicate is no commit");
}
