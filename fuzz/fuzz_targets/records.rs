//! `POST /v1/records` as JSON: an object or an array. An input is the body.
#![no_main]

#[path = "oracle/records.rs"]
mod oracle;

use fieldsync::ipc::fuzzing::read_records;
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

fuzz_target!(|body: &[u8]| {
    let read = read_records(body, false);
    let elements: Option<Vec<&RawValue>> = match body.trim_ascii_start().first() {
        Some(b'[') => serde_json::from_slice(body).ok(),
        _ => serde_json::from_slice(body).ok().map(|one| vec![one]),
    };
    if let Some(elements) = &elements {
        for (position, element) in (1..).zip(elements) {
            let text = element.get().as_bytes();
            // NDJSON allows no line break inside a record.
            if !text.contains(&b'\n') {
                oracle::assert_alone(text, position, &read);
            }
        }
    }
    match read {
        Ok(records) => {
            let elements = elements.expect("the body was accepted");
            assert_eq!(records.len(), elements.len());
            for (record, element) in records.iter().zip(elements) {
                oracle::assert_record(element.get().as_bytes(), record);
            }
            oracle::assert_stable(&records);
        }
        Err(rejection) => {
            let position = rejection.position.expect("it is too short for too many records") as usize;
            let commas = body.iter().filter(|byte| **byte == b',').count();
            // The part that cannot be parsed is behind the last element that can.
            let last = elements.map_or(commas + 2, |elements| elements.len());
            assert!((1..=last).contains(&position), "position {position} of {last}");
            assert!(rejection.message.starts_with(&format!("record {position}: ")));
        }
    }
});
