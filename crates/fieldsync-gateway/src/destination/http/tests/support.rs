//! Mappings and records of the tests.

use std::fs;
use std::path::{Path, PathBuf};

use actix_web::web::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::super::codes::CodeTable;
use super::super::decode::{CallResponse, CallTrouble, DecodedCall, decode_response};
use super::super::mapping::HttpMapping;
use super::super::mapping_check::parse_mapping;
use super::super::presets::{SalesforceSettings, ZohoSettings, salesforce_mapping, zoho_mapping};
use super::super::record_error::DecodeContext;
use super::super::type_mapping::TypeMapping;
use crate::destination::Verdict;
use crate::model::RecordId;
use crate::protocol::wire::WireRecord;
use crate::validated_batch::ValidatedRecord;

const ZOHO_TYPES: &str = "
[[type]]
name = 'Accounts'
id_field = 'Fieldsync_Id'
key_field = 'Fieldsync_Key'
trigger = []
fields = { account = 'Account_Name', sector = 'Industry', employees = 'Employees', mail = 'Email', order = 'Fieldsync_Seq' }

[[type]]
name = 'Opportunities'
module = 'Deals'
id_field = 'Fieldsync_Id'
key_field = 'Fieldsync_Key'
trigger = ['workflow']
fields = { name = 'Deal_Name', stage = 'Stage', amount = 'Amount', order = 'Fieldsync_Seq' }
";

const SALESFORCE_TYPES: &str = "
[[type]]
name = 'Accounts'
module = 'Account'
id_field = 'Fieldsync_Id__c'
key_field = 'Fieldsync_Key__c'
fields = { account = 'Name', sector = 'Industry', employees = 'NumberOfEmployees', mail = 'Email__c', order = 'Fieldsync_Seq__c' }

[[type]]
name = 'Opportunities'
module = 'Opportunity'
id_field = 'Fieldsync_Id__c'
key_field = 'Fieldsync_Key__c'
fields = { name = 'Name', stage = 'StageName', amount = 'Amount', order = 'Fieldsync_Seq__c' }
";

/// A mapping without what a deployment adds: all but the types is ignored.
fn parse_types(text: &str) -> Vec<TypeMapping> {
    #[derive(serde::Deserialize)]
    struct TypeList {
        r#type: Vec<TypeMapping>,
    }
    toml::from_str::<TypeList>(text).unwrap().r#type
}

/// Zoho with record types, whose secrets are in files of this directory.
pub(crate) fn zoho_mapping_in(url: &str, directory: &Path) -> HttpMapping {
    let settings = ZohoSettings {
        accounts_url: url.into(),
        api_domain: None,
        client_id: "stand-in-client".into(),
        client_secret_file: directory.join("secret"),
        refresh_token_file: directory.join("refresh"),
    };
    let mut mapping = zoho_mapping(&settings).unwrap();
    mapping.types = parse_types(ZOHO_TYPES);
    mapping
}

/// As [`zoho_mapping_in`], without files.
pub(crate) fn zoho_test_mapping(url: &str) -> HttpMapping {
    zoho_mapping_in(url, Path::new("."))
}

pub(crate) fn salesforce_mapping_in(url: &str, directory: &Path) -> HttpMapping {
    let settings = SalesforceSettings {
        login_url: url.into(),
        api_version: "v62.0".into(),
        client_id: "stand-in-client".into(),
        client_secret_file: directory.join("secret"),
    };
    let mut mapping = salesforce_mapping(&settings).unwrap();
    mapping.types = parse_types(SALESFORCE_TYPES);
    mapping
}

/// The example in the documentation.
pub(crate) fn hubspot_mapping() -> HttpMapping {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples/hubspot.toml");
    parse_mapping(&fs::read_to_string(path).unwrap()).unwrap()
}

pub(crate) fn record_id(number: u128) -> RecordId {
    RecordId(Uuid::from_u128(number))
}

pub(crate) fn test_record(
    number: u128,
    record_type: &str,
    key: Option<&str>,
    payload: &str,
) -> ValidatedRecord {
    let record = WireRecord {
        id: record_id(number),
        record_type: record_type.into(),
        key: key.map(Into::into),
        priority: None,
        created_at: 0,
        payload: RawValue::from_string(payload.into()).unwrap(),
    };
    ValidatedRecord::new(record, None)
}

/// An account with more members, such as `, "employees": 3`.
pub(crate) fn account(number: u128, key: Option<&str>, more: &str) -> ValidatedRecord {
    let payload =
        format!(r#"{{"account": "Account {number}", "sector": "retail", "order": {number}{more}}}"#);
    test_record(number, "Accounts", key, &payload)
}

pub(crate) fn opportunity(number: u128, key: Option<&str>) -> ValidatedRecord {
    let payload =
        format!(r#"{{"name": "Deal {number}", "stage": "Won", "amount": 10.50, "order": {number}}}"#);
    test_record(number, "Opportunities", key, &payload)
}

/// What a response to a call with so many records of the first type means.
pub(crate) fn decode(
    mapping: &HttpMapping,
    status: u16,
    body: &[u8],
    records: usize,
) -> Result<DecodedCall, CallTrouble> {
    let codes = CodeTable::new(&mapping.codes);
    let context = DecodeContext { mapping, codes: &codes, record_type: &mapping.types[0] };
    let ids: Vec<RecordId> = (1..=records as u128).map(record_id).collect();
    let response = CallResponse { status, body: Bytes::copy_from_slice(body), ..CallResponse::default() };
    decode_response(&context, &response, &ids)
}

/// A member of a receipt.
#[track_caller]
pub(crate) fn receipt_member(verdict: &Verdict, name: &str) -> String {
    let Verdict::Applied(receipt) = verdict else { panic!("{verdict:?}") };
    let receipt: Value = serde_json::from_str(receipt.as_str()).unwrap();
    receipt[name].as_str().unwrap_or_else(|| panic!("{name} of {receipt}")).to_owned()
}

/// The code of a verdict, and whether it rejects.
#[track_caller]
pub(crate) fn refusal(verdict: &Verdict) -> (&str, bool) {
    match verdict {
        Verdict::Applied(receipt) => panic!("{receipt:?}"),
        Verdict::Rejected { code, .. } => (code, true),
        Verdict::Retry { code, .. } => (code, false),
    }
}

/// The field of a rejection.
#[track_caller]
pub(crate) fn rejected_field(verdict: &Verdict) -> Option<&str> {
    match verdict {
        Verdict::Rejected { field, .. } => field.as_deref(),
        other => panic!("{other:?}"),
    }
}
