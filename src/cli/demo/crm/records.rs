//! The records of the demo with a CRM: accounts, their deals, and a few that the CRM refuses.

use serde_json::{Value, json};

const ACCOUNT_COUNT: usize = 30;
const RECORD_COUNT: usize = 150;
const INDUSTRIES: [&str; 5] = ["retail", "medical", "finance", "software", "services"];
const PRODUCTS: [&str; 4] = ["GTX Basic", "GTX Plus Basic", "MG Special", "MG Advanced"];
const STAGES: [&str; 4] = ["Prospecting", "Engaging", "Won", "Lost"];
/// Positions of the records that the CRM refuses, with the field at fault and its value. They have no key: otherwise
/// the later records of their key would wait until they are corrected.
const INVALID: [(usize, &str, &str); 3] =
    [(20, "email", "ask at the desk"), (70, "stage", "Shaken hands"), (110, "amount", "about a thousand")];

/// One JSON object for each record.
pub(super) fn generate_records() -> Vec<String> {
    // Other accounts each time: a stand-in may have those of an earlier demo.
    let run = format!("{:08x}", fastrand::u32(..));
    let mut records: Vec<Value> = (0..RECORD_COUNT).map(|number| generate_record(&run, number)).collect();
    for (position, field, value) in INVALID {
        if let Some(record) = records.get_mut(position) {
            record["payload"][field] = value.into();
            record.as_object_mut().and_then(|record| record.remove("key"));
        }
    }
    records.iter().map(Value::to_string).collect()
}

fn generate_record(run: &str, number: usize) -> Value {
    let pick = |list: &[&'static str]| list.get(number % list.len()).copied().unwrap_or_default();
    let key = format!("{run}/account-{}", number % ACCOUNT_COUNT);
    if number < ACCOUNT_COUNT {
        let payload = json!({
            "number": number, "name": format!("Customer {number}"), "industry": pick(&INDUSTRIES),
            "employees": 10 + number * 37 % 900, "email": format!("office@customer-{number}.example"),
        });
        return json!({"type": "Accounts", "key": key, "payload": payload});
    }
    let payload = json!({
        "number": number, "title": format!("Visit {number}"), "stage": pick(&STAGES),
        "amount": 500 + number * 113 % 9000, "product": pick(&PRODUCTS),
    });
    json!({"type": "Deals", "key": key, "payload": payload})
}
