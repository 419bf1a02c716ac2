//! `POST /v1/records` as NDJSON: one object on each line. An input is the body.
#![no_main]

#[path = "oracle/records.rs"]
mod oracle;

use fieldsync::ipc::fuzzing::read_records;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let read = read_records(body, true);
    let lines: Vec<&[u8]> = body.split(|byte| *byte == b'\n').collect();
    let is_blank = |line: &[u8]| line.trim_ascii().is_empty();
    match &read {
        Ok(records) => {
            let written: Vec<&[u8]> = lines.into_iter().filter(|line| !is_blank(line)).collect();
            assert_eq!(records.len(), written.len());
            for ((position, line), record) in (1..).zip(written).zip(records) {
                oracle::assert_record(line, record);
                oracle::assert_alone(line, position, &read);
            }
            oracle::assert_stable(records);
        }
        Err(rejection) => {
            let position = rejection.position.expect("it is too short for too many records");
            assert!((1..=lines.len() as u64).contains(&position));
            assert!(rejection.message.starts_with(&format!("line {position}: ")));
            assert!(!is_blank(lines[position as usize - 1]));
            for (position, line) in (1..).zip(lines) {
                if !is_blank(line) {
                    oracle::assert_alone(line, position, &read);
                }
            }
        }
    }
});
