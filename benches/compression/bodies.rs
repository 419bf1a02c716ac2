//! Bodies of batches, as the daemon sends them.

use std::fs;
use std::path::Path;

use fieldsync::model::{BatchId, DeviceId, RecordId, Sequence};
use fieldsync::protocol::wire::{BatchRequest, WireRecord};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use uuid::{Builder, Uuid};

/// The time of the first record, and the longest time between two records, as in field work.
const START_MS: u64 = 1_772_352_930_120;
const PAUSE_MS: u64 = 20_000;
const GENERATED: usize = 4000;

/// A record as an application submits it.
#[derive(Deserialize)]
pub(crate) struct Record {
    #[serde(rename = "type")]
    kind: String,
    key: Option<String>,
    payload: Box<RawValue>,
}

/// The records of a file.
pub(crate) fn read(file: &Path) -> Vec<Record> {
    let text = fs::read_to_string(file).expect("the file can be read");
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| serde_json::from_str(line).expect("a record on each line")).collect()
}

/// Visits, deals and notes of a few dozen accounts.
pub(crate) fn generated() -> Vec<Record> {
    const WORDS: [&str; 24] = [
        "asked", "for", "a", "new", "offer", "spare", "parts", "delivery", "late", "pump", "valve",
        "service", "contract", "renewal", "met", "with", "the", "manager", "will", "call", "back", "price",
        "too", "high",
    ];
    let mut rng = fastrand::Rng::with_seed(7);
    (0..GENERATED)
        .map(|n| {
            let account = format!("account-{}", rng.u32(..60));
            let words: Vec<_> = (0..rng.usize(4..30)).map(|_| WORDS[rng.usize(..WORDS.len())]).collect();
            let (kind, payload) = match n % 3 {
                0 => ("Visits", json!({"account": account, "subject": words.join(" "), "minutes": rng.u32(5..120)})),
                1 => ("Deals", json!({
                    "account": account, "product": WORDS[rng.usize(..WORDS.len())], "stage": rng.u32(1..6),
                    "amount": f64::from(rng.u32(1000..900_000)) / 100.0, "close_date": null,
                })),
                _ => ("Notes", json!({"account": account, "text": words.join(" "), "private": rng.bool()})),
            };
            let payload = serde_json::value::to_raw_value(&payload).expect("JSON");
            Record { kind: kind.into(), key: Some(account), payload }
        })
        .collect()
}

/// The bodies of full batches of `size` records, in the order of the records.
pub(crate) fn batches(records: &[Record], size: usize) -> Vec<Vec<u8>> {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut now = START_MS;
    let device_id = DeviceId(random(&mut rng));
    let sets = records.chunks_exact(size);
    let total = u32::try_from(sets.len()).unwrap_or(u32::MAX);
    sets.zip(1..)
        .map(|(set, index)| {
            let records = set.iter().map(|record| {
                now += rng.u64(..PAUSE_MS);
                let mut random = [0; 10];
                rng.fill(&mut random);
                WireRecord {
                    id: RecordId(Builder::from_unix_timestamp_millis(now, &random).into_uuid()),
                    record_type: record.kind.clone(),
                    key: record.key.clone(),
                    priority: None,
                    created_at: now,
                    payload: record.payload.clone(),
                }
            });
            let records = records.collect();
            let sequence = Sequence { index, total };
            let batch_id = BatchId(random(&mut rng));
            serde_json::to_vec(&BatchRequest { batch_id, device_id, sequence, records }).expect("JSON")
        })
        .collect()
}

fn random(rng: &mut fastrand::Rng) -> Uuid {
    Builder::from_random_bytes(rng.u128(..).to_ne_bytes()).into_uuid()
}
