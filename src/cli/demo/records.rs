//! The records of the demo: a morning of a technician, and one record that makes the server hang.

use std::path::Path;

use serde_json::json;

use crate::cli::failure::Failure;
use crate::exit;

/// Records that hang the server say so in a field that nobody else has.
pub(super) const POISON: &str = "demo-record-that-hangs-the-server";
const GOOD_RECORDS: usize = 149;
const ACCOUNTS: usize = 97;
/// Where the record at fault stands: late enough that syncing is under way, early enough that others follow.
const POISON_SHARE: usize = 4;
/// An input is held in memory.
const MAX_INPUT_BYTES: u64 = 64 << 20;

/// One JSON object a record.
pub(super) fn made_up() -> Vec<String> {
    let good = (0..GOOD_RECORDS).map(|n| {
        let account = format!("account-{}", n % ACCOUNTS);
        let (kind, payload) = match n % 3 {
            0 => ("Visits", json!({"Subject": format!("Site visit {n}"), "Minutes": 15 + n % 50})),
            1 => ("Orders", json!({"Part": format!("P-{:04}", n * 37 % 9000), "Quantity": 1 + n % 7})),
            _ => ("Readings", json!({"Meter": n, "Value": 1000 + n * 13, "Unit": "kWh"})),
        };
        json!({"type": kind, "key": account, "payload": payload}).to_string()
    });
    with_poison(good.collect())
}

/// The lines of an NDJSON file, and the record that makes the server hang among them.
pub(super) fn from_file(path: &Path) -> Result<Vec<String>, Failure> {
    let refused = |reason: String| {
        Failure::new(exit::REFUSED, format!("{}: {reason}. Nothing was started.", path.display()))
    };
    let size = std::fs::metadata(path).map_err(|error| refused(error.to_string()))?.len();
    if size > MAX_INPUT_BYTES {
        return Err(refused(format!(
            "larger than the {MAX_INPUT_BYTES} bytes that the demo holds in memory"
        )));
    }
    let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
    let lines = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect::<Vec<_>>();
    if lines.is_empty() {
        return Err(refused("there is no record in it".into()));
    }
    Ok(with_poison(lines))
}

fn with_poison(mut records: Vec<String>) -> Vec<String> {
    let poison = json!({"type": "Visits", "payload": {"Subject": "Site visit", "Note": POISON}});
    records.insert(records.len() / POISON_SHARE, poison.to_string());
    records
}
