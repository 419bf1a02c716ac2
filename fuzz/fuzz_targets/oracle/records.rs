//! What must hold for accepted records, checked with the simplest parser: `serde_json::Value`.

use fieldsync::ipc::fuzzing::{Rejection, read_records};
use fieldsync::model::NewRecord;
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

/// The limits that the documentation of the API promises.
const MAX_TYPE_BYTES: usize = 128;
const MAX_KEY_BYTES: usize = 512;
const MAX_PRIORITY: u64 = 9;
const DEFAULT_PRIORITY: u64 = 5;
const MAX_NESTING_LEVELS: usize = 128;

/// Panics unless `record` matches its text and is within the limits.
pub fn assert_record(text: &[u8], record: &NewRecord) {
    assert!((1..=MAX_TYPE_BYTES).contains(&record.record_type.len()));
    assert!(record.key.as_ref().is_none_or(|key| (1..=MAX_KEY_BYTES).contains(&key.len())));
    let mut letters = record.record_type.chars().chain(record.key.iter().flat_map(|key| key.chars()));
    assert!(!letters.any(char::is_control));
    assert!(u64::from(record.priority) <= MAX_PRIORITY);
    let payload = &*record.payload;
    assert!(payload.starts_with('{') && payload.ends_with('}'));
    assert!(serde_json::from_str::<&RawValue>(payload).is_ok_and(|json| json.get() == payload));
    assert!(text.windows(payload.len()).any(|part| part == payload.as_bytes()), "the payload was changed");

    assert!(nesting_levels(payload) <= MAX_NESTING_LEVELS);

    // The whole record may be nested too deeply for this parser.
    let Ok(said) = serde_json::from_slice::<Value>(text) else { return };
    assert_eq!(said["type"], *record.record_type);
    assert_eq!(said.get("key").and_then(Value::as_str), record.key.as_deref());
    let priority = said.get("priority").and_then(Value::as_u64).unwrap_or(DEFAULT_PRIORITY);
    assert_eq!(priority, u64::from(record.priority));
    if let Some(id) = said.get("id").and_then(Value::as_str) {
        assert_eq!(Uuid::parse_str(id).ok(), Some(record.id.0));
    }
    assert_eq!(serde_json::from_str::<Value>(payload).ok().as_ref(), said.get("payload"));
}

/// The nesting of valid JSON: every bracket outside of strings counts.
fn nesting_levels(json: &str) -> usize {
    let (mut level, mut most) = (0, 0);
    // An escaped quote does not end a string.
    let unescaped = json.replace(r"\\", "").replace(r#"\""#, "");
    for outside in unescaped.split('"').step_by(2) {
        for byte in outside.bytes() {
            match byte {
                b'{' | b'[' => level += 1,
                b'}' | b']' => level -= 1,
                _ => {}
            }
            most = most.max(level);
        }
    }
    most
}

/// Panics unless an element or line alone gives the same result as in the whole request.
pub fn assert_alone(text: &[u8], position: u64, whole: &Result<Vec<NewRecord>, Rejection>) {
    let alone = read_records(text, true);
    let index = position as usize - 1;
    match whole {
        Ok(records) => assert_same(&alone.expect("it was accepted with others"), &records[index..=index]),
        Err(rejection) if rejection.position > Some(position) => {
            assert!(alone.is_ok_and(|records| records.len() == 1), "the reported mistake is behind it");
        }
        Err(rejection) if rejection.position == Some(position) => {
            let alone = alone.expect_err("the reported mistake is here");
            assert_eq!(reason(&alone), reason(rejection));
        }
        Err(_) => {}
    }
}

/// The reason, without positions.
fn reason(rejection: &Rejection) -> &str {
    let reason = rejection.message.split_once(": ").map_or("", |(_, reason)| reason);
    reason.rsplit_once(" at line ").map_or(reason, |(reason, _)| reason)
}

/// Panics unless the records, written again, are parsed to the same in both formats.
pub fn assert_stable(records: &[NewRecord]) {
    // Outside of strings, a line break is white space. Strings contain none.
    let flat: Vec<NewRecord> = records
        .iter()
        .map(|record| NewRecord { payload: record.payload.replace('\n', " ").into(), ..record.clone() })
        .collect();
    let lines: Vec<String> = flat.iter().map(write).collect();
    assert_same(&read_records(lines.join("\n").as_bytes(), true).expect("what was read is valid"), &flat);
    let array: Vec<String> = records.iter().map(write).collect();
    let array = format!("[{}]", array.join(","));
    assert_same(&read_records(array.as_bytes(), false).expect("what was read is valid"), records);
}

fn write(record: &NewRecord) -> String {
    let NewRecord { id, record_type, key, priority, payload } = record;
    let (record_type, key) = (serde_json::json!(record_type), serde_json::json!(key));
    format!(r#"{{"id":"{id}","type":{record_type},"key":{key},"priority":{priority},"payload":{payload}}}"#)
}

/// Compares without ids: those that the application did not set differ each time.
fn assert_same(some: &[NewRecord], others: &[NewRecord]) {
    let parts = |record: &NewRecord| {
        let NewRecord { record_type, key, priority, payload, .. } = record.clone();
        (record_type, key, priority, payload)
    };
    assert!(some.iter().map(parts).eq(others.iter().map(parts)));
}
