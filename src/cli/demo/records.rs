//! The records of the demo: the work of a technician, and one record that makes the server hang.

use std::path::Path;

use serde_json::json;

use crate::cli::failure::CommandFailure;
use crate::exit;

/// The record that makes the server hang contains this text.
pub(super) const POISON_MARK: &str = "demo-record-that-hangs-the-server";
const GOOD_RECORD_COUNT: usize = 149;
const ACCOUNT_COUNT: usize = 97;
/// The faulty record stands behind a quarter of the others: syncing has begun by then, and other records follow.
const POISON_POSITION_DIVISOR: usize = 4;
/// The input is kept in memory.
const INPUT_BYTES_MAX: u64 = 64 << 20;

/// One JSON object for each record.
pub(super) fn generate_records() -> Vec<String> {
    let good = (0..GOOD_RECORD_COUNT).map(|n| {
        let account = format!("account-{}", n % ACCOUNT_COUNT);
        let (kind, payload) = match n % 3 {
            0 => ("Visits", json!({"Subject": format!("Site visit {n}"), "Minutes": 15 + n % 50})),
            1 => ("Orders", json!({"Part": format!("P-{:04}", n * 37 % 9000), "Quantity": 1 + n % 7})),
            _ => ("Readings", json!({"Meter": n, "Value": 1000 + n * 13, "Unit": "kWh"})),
        };
        json!({"type": kind, "key": account, "payload": payload}).to_string()
    });
    insert_poison(good.collect())
}

/// The lines of an NDJSON file, with the record that makes the server hang inserted.
pub(super) fn read_records(path: &Path) -> Result<Vec<String>, CommandFailure> {
    let refused = |reason: String| {
        CommandFailure::new(exit::REFUSED, format!("{}: {reason}. Nothing was started.", path.display()))
    };
    let size = std::fs::metadata(path).map_err(|error| refused(error.to_string()))?.len();
    if size > INPUT_BYTES_MAX {
        return Err(refused(format!(
            "larger than the {INPUT_BYTES_MAX} bytes that the demo holds in memory"
        )));
    }
    let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
    let lines = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect::<Vec<_>>();
    if lines.is_empty() {
        return Err(refused("it contains no record".into()));
    }
    Ok(insert_poison(lines))
}

fn insert_poison(mut records: Vec<String>) -> Vec<String> {
    let poison = json!({"type": "Visits", "payload": {"Subject": "Site visit", "Note": POISON_MARK}});
    records.insert(records.len() / POISON_POSITION_DIVISOR, poison.to_string());
    records
}
