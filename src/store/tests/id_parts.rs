//! Parts of ids.

use uuid::Uuid;

use super::support::{QueueBench, record};
use crate::model::{NewRecord, RecordId};
use crate::store::IdDigits;

const IDS: [u128; 5] = [
    0x0000_0000_0000_4000_8000_0000_dead_beef,
    0x0191_b3a0_0000_7000_8000_0000_0000_0001,
    0x0191_b3a0_0000_7000_8000_0000_0000_0002,
    0x0191_b3a0_0000_7000_8000_0000_0000_0003,
    0xffff_ffff_ffff_4fff_8fff_ffff_dead_beef,
];

fn bench() -> QueueBench {
    let mut bench = QueueBench::new();
    let with_id = |id: &u128| NewRecord { id: RecordId(Uuid::from_u128(*id)), ..record(0, None) };
    bench.append(IDS.iter().map(with_id).collect());
    bench
}

fn numbers(ids: &[RecordId]) -> Vec<u128> {
    ids.iter().map(|id| id.0.as_u128()).collect()
}

/// The ids with this end, and the number of steps.
fn find_by_end(bench: &QueueBench, digits: &str, step: usize) -> (Vec<u128>, usize) {
    let digits = IdDigits::parse(digits).unwrap();
    let (mut found, mut last, mut steps) = (Vec::new(), None, 0);
    loop {
        let matches = bench.with_view(|view| view.find_by_end(digits, last, step));
        found.extend(numbers(&matches.found));
        steps += 1;
        last = matches.next;
        if last.is_none() {
            return (found, steps);
        }
    }
}

#[test]
fn an_end_is_compared_with_every_id_in_however_many_steps() {
    let bench = bench();
    for (step, steps) in [(1, 5), (2, 3), (5, 1), (100, 1)] {
        assert_eq!(find_by_end(&bench, "deadbeef", step), (vec![IDS[0], IDS[4]], steps), "{step}");
        assert_eq!(find_by_end(&bench, "0002", step), (vec![IDS[2]], steps), "{step}");
        assert_eq!(find_by_end(&bench, "cafecafe", step), (Vec::new(), steps), "{step}");
    }
}

#[test]
fn a_beginning_is_found_among_all_ids() {
    let bench = bench();
    let find = |digits: &str| {
        let digits = IdDigits::parse(digits).unwrap();
        numbers(&bench.with_view(|view| view.find_by_beginning(digits)))
    };
    assert_eq!(find("0191b3a0"), IDS[1..4]);
    assert_eq!(find("ffff"), IDS[4..]);
    assert_eq!(find("0191b3a000007000800000000000000"), IDS[1..4]);
    assert!(find("beef").is_empty());
}

#[test]
fn only_hexadecimal_digits_are_a_part() {
    for text in ["", "xyz1", "+123", "0191b3a000007000800000000000000ff", "0191b3a0000070008000000000000001"]
    {
        assert!(IdDigits::parse(text).is_none(), "{text}");
    }
}
