//! Responses as a server may send them: mostly valid, with some odd parts.

use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{BATCH, OTHER};

fn uuid() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => any::<u128>().prop_map(|id| json!(Uuid::from_u128(id))),
        1 => Just(json!(OTHER)),
        1 => any::<u128>().prop_map(|id| json!(Uuid::from_u128(id).simple().to_string().to_uppercase())),
    ]
}

/// Any JSON.
pub(super) fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,9}".prop_map(Value::from),
        Just(json!("queued")),
        Just(json!({"applied": null})),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("id|status|code|.", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

/// One result: mostly valid, with some odd parts.
fn record_result() -> impl Strategy<Value = Value> {
    let status = prop_oneof![
        6 => prop::sample::select(vec!["applied", "duplicate", "rejected", "retry"]).prop_map(Value::from),
        1 => any_json(),
    ];
    let text = || prop_oneof![2 => Just(None), 2 => ".{0,20}".prop_map(|text| Some(json!(text))), 1 => any_json().prop_map(Some)];
    let id = prop_oneof![6 => uuid(), 1 => any_json()];
    let receipt = prop_oneof![2 => Just(None), 1 => any_json().prop_map(|id| Some(json!({"id": id}))), 1 => any_json().prop_map(Some)];
    let wait = prop_oneof![2 => Just(None), 1 => any::<u64>().prop_map(|wait| Some(json!(wait))), 1 => any_json().prop_map(Some)];
    let besides = (text(), receipt, wait, prop::option::of(any_json()));
    let whole = (id, status, text(), text(), besides).prop_map(
        |(id, status, code, message, (field, receipt, wait, more))| {
            let mut result = json!({"id": id, "status": status});
            for (name, value) in [
                ("code", code),
                ("message", message),
                ("field", field),
                ("receipt", receipt),
                ("retry_after_s", wait),
                ("applied_at", more),
            ] {
                if let Some(value) = value {
                    result[name] = value;
                }
            }
            result
        },
    );
    prop_oneof![8 => whole, 1 => any_json()]
}

/// A response to this batch, and sometimes to another.
pub(super) fn batch_response() -> impl Strategy<Value = Value> {
    let batch = prop_oneof![9 => Just(json!(BATCH)), 1 => Just(json!(OTHER)), 1 => any_json()];
    let replayed = prop_oneof![4 => any::<bool>().prop_map(Value::from), 1 => any_json()];
    (batch, replayed, prop::collection::vec(record_result(), 0..9), any::<bool>()).prop_map(
        |(batch, replayed, mut results, twice)| {
            if let (true, Some(first)) = (twice, results.first().cloned()) {
                results.push(first);
            }
            json!({"batch_id": batch, "replayed": replayed, "results": results})
        },
    )
}
