//! The records of these tests: 85 accounts and 8,800 deals. Some of them are made invalid.

use serde_json::{Value, json};

use crate::support::crm_stand_in::CrmKind;

const DATA_SET: &[u8] = include_bytes!("../../fixtures/crm_opportunities.ndjson.zst");
/// All records of the data set.
pub(super) const RECORD_COUNT: usize = 8885;
/// The part of the payload that holds the position of the record in the queue.
pub(super) const ORDER_MEMBER: &str = "line";

/// What is wrong with a record, and how the CRM refuses it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defect {
    record_type: &'static str,
    member: &'static str,
    /// JSON.
    value: &'static str,
    zoho_code: &'static str,
    salesforce_code: &'static str,
}

const fn defect(
    (record_type, member, value): (&'static str, &'static str, &'static str),
    zoho_code: &'static str,
    salesforce_code: &'static str,
) -> Defect {
    Defect { record_type, member, value, zoho_code, salesforce_code }
}

const DEFECTS: [Defect; 6] = [
    defect(
        ("Deals", "deal_stage", r#""Shaken hands""#),
        "INVALID_DATA",
        "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
    ),
    defect(("Accounts", "employees", r#""many""#), "INVALID_DATA", "JSON_PARSER_ERROR"),
    defect(("Deals", "close_value", r#""a lot""#), "INVALID_DATA", "JSON_PARSER_ERROR"),
    defect(("Deals", "opportunity_id", "null"), "MANDATORY_NOT_FOUND", "REQUIRED_FIELD_MISSING"),
    defect(("Accounts", "mail", r#""nowhere""#), "INVALID_DATA", "INVALID_EMAIL_ADDRESS"),
    defect(("Deals", "close_date", r#""the day after tomorrow""#), "INVALID_DATA", "STRING_TOO_LONG"),
];

impl Defect {
    pub(super) fn code(self, crm: CrmKind) -> &'static str {
        match crm {
            CrmKind::Zoho => self.zoho_code,
            CrmKind::Salesforce => self.salesforce_code,
        }
    }

    /// The faulty part of the payload, as a JSON Pointer.
    pub(super) fn field(self) -> String {
        format!("/{}", self.member)
    }
}

/// A record as it is enqueued.
#[derive(Clone, Debug)]
pub(super) struct CrmRecord {
    pub(super) value: Value,
    pub(super) defect: Option<Defect>,
}

impl CrmRecord {
    pub(super) fn record_type(&self) -> &str {
        self.value["type"].as_str().unwrap()
    }

    pub(super) fn key(&self) -> Option<&str> {
        self.value["key"].as_str()
    }

    /// Makes it invalid. It gets no key, so that no record waits behind it.
    fn spoil(&mut self, number: usize) {
        let defects: Vec<Defect> =
            DEFECTS.into_iter().filter(|defect| defect.record_type == self.record_type()).collect();
        let defect = defects[number % defects.len()];
        self.value["payload"][defect.member] = serde_json::from_str(defect.value).unwrap();
        self.value.as_object_mut().unwrap().remove("key");
        self.defect = Some(defect);
    }
}

/// The first `count` records of the data set, `invalid` of them spread over all.
pub(super) fn crm_records(count: usize, invalid: usize) -> Vec<CrmRecord> {
    let text = String::from_utf8(zstd::decode_all(DATA_SET).unwrap()).unwrap();
    let mut records: Vec<CrmRecord> = (1..)
        .zip(text.lines())
        .take(count)
        .map(|(number, line)| {
            let mut value: Value = serde_json::from_str(line).unwrap();
            value["payload"][ORDER_MEMBER] = json!(number);
            CrmRecord { value, defect: None }
        })
        .collect();
    assert_eq!(records.len(), count);
    spoil_some(&mut records, invalid);
    records
}

/// Makes some records invalid. Every fourth of them is among the first records, which are accounts in the data set.
pub(super) fn spoil_some(records: &mut [CrmRecord], invalid: usize) {
    for number in 0..invalid {
        let position = if number % 4 == 0 { number } else { number * records.len() / invalid };
        records[position].spoil(number / 4 + number);
    }
    assert_eq!(records.iter().filter(|record| record.defect.is_some()).count(), invalid);
}
