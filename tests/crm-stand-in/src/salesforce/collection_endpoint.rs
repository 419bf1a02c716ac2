//! `PATCH /services/data/{version}/composite/sobjects/{object}/{id_field}`.

use std::sync::Arc;

use actix_web::web::{Bytes, Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::Value;

use crate::call::{AcceptedCall, CommonRefusals, CrmAnswer, retry_after_header};
use crate::clock::monotonic_now;
use crate::limits::LimitReached;
use crate::options::FieldErrorScope;
use crate::schema::ModuleSchema;
use crate::state::{CallPermit, CrmState};
use crate::storage::{Fields, index_key};
use crate::tally::Violation;
use crate::upsert::{ApplyRun, CheckedRecord, UpsertCall, UpsertResult, UpsertTarget, count_records};

use super::SalesforceCrm;
use super::collection_request::{CollectionRequest, is_known_version};
use super::record_error::{
    ambiguous_id_error, demanded_errors, duplicate_value_error, field_error, is_parser_problem, record_error,
    refused_result, repeated_id_error, success_result, unknown_field_error,
};
use super::refusal::{SalesforceRefusal, is_call_code};

const LOCK_CODES: [&str; 1] = ["UNABLE_TO_LOCK_ROW"];
/// [from memory] How many calls the organization made, and how many it may.
const USAGE_HEADER: &str = "Sforce-Limit-Info";
const ROLLED_BACK: &str = "ALL_OR_NONE_OPERATION_ROLLED_BACK";
const ROLLED_BACK_MESSAGE: &str = "Record rolled back because not all records were valid";
/// Flows run for every record that is stored.
const FLOW: &str = "flow";

/// A record of a call: what it is refused with, or what is to be done.
enum ObjectRecordPlan {
    Refused(Vec<Value>),
    Apply { target: UpsertTarget, fields: Fields },
}

/// All that is decided when a call arrives.
struct PlannedCall {
    object: String,
    records_at_arrival: usize,
    is_all_or_none: bool,
    records: Vec<ObjectRecordPlan>,
}

pub(super) async fn upsert_collection(
    request: HttpRequest,
    path: Path<(String, String, String)>,
    body: Bytes,
    crm: Data<SalesforceCrm>,
) -> HttpResponse {
    let (version, object, id_field) = path.into_inner();
    match crm.accept_call(&request, &version, &object, &id_field, &body) {
        Err(refusal) => crm.refuse(&refusal),
        Ok((call, planned)) => {
            let crm = crm.into_inner();
            call.run(&request, move |state: &mut CrmState| crm.apply_records(state, planned)).await
        }
    }
}

impl SalesforceCrm {
    fn accept_call(
        &self,
        request: &HttpRequest,
        version: &str,
        object: &str,
        id_field: &str,
        body: &[u8],
    ) -> Result<(AcceptedCall, PlannedCall), SalesforceRefusal> {
        self.expire_tokens_on_demand();
        self.authorize(request)?;
        if !is_known_version(version) {
            return Err(SalesforceRefusal::new("NOT_FOUND"));
        }
        let schema = self.find_object(object, id_field)?;
        let collection = self.parse_request(object, id_field, body)?;
        let permit = self.enter_call(collection.records.len())?;
        let planned = self.plan_call(object, id_field, schema, &collection)?;
        let mut state = self.stand_in.lock();
        let state = &mut *state;
        let fault = state.faults.draw_call_fault(&mut state.rng);
        if let Some(fault) = fault {
            state.tally.count_fault(fault);
        }
        let (stand_in, records) = (Arc::clone(&self.stand_in), collection.records.len());
        let refusals = self.common_refusals();
        Ok((AcceptedCall { stand_in, permit, records, fault, refusals }, planned))
    }

    fn expire_tokens_on_demand(&self) {
        let mut state = self.stand_in.lock();
        let state = &mut *state;
        if state.faults.draw_token_expiry(&mut state.rng) {
            state.tokens.invalidate_all();
            state.tally.count_fault("expire-tokens");
        }
    }

    fn find_object(&self, object: &str, id_field: &str) -> Result<&ModuleSchema, SalesforceRefusal> {
        let schema = self.stand_in.schema.get(object).ok_or_else(|| SalesforceRefusal::new("NOT_FOUND"))?;
        if schema.is_unique(id_field) {
            return Ok(schema);
        }
        let message = format!("Provided external ID field does not exist or is not accessible: {id_field}");
        Err(SalesforceRefusal::with_message("NOT_FOUND", &message))
    }

    fn enter_call(&self, records: usize) -> Result<CallPermit, SalesforceRefusal> {
        let mut state = self.stand_in.lock();
        let state = &mut *state;
        if let Some(code) = state.faults.draw_refusal(&mut state.rng) {
            return Err(SalesforceRefusal::new(&code));
        }
        match state.limits.enter(records, 1, true, monotonic_now()) {
            Ok(()) => Ok(CallPermit::new(Arc::clone(&self.stand_in), records)),
            Err(LimitReached::Credits { .. }) => Err(SalesforceRefusal::new("REQUEST_LIMIT_EXCEEDED")),
            Err(LimitReached::Calls { limit, is_known }) => {
                if is_known {
                    let note = || {
                        format!("a call above the limit of {limit} at a time, after it was refused before")
                    };
                    state.tally.count_violation(Violation::CallsAboveAnnouncedLimit, note);
                }
                let message = "ConcurrentRequests (Concurrent API Requests) Limit exceeded.";
                Err(SalesforceRefusal::with_message("REQUEST_LIMIT_EXCEEDED", message))
            }
        }
    }

    fn common_refusals(&self) -> CommonRefusals {
        let mut unavailable = SalesforceRefusal::new("SERVER_UNAVAILABLE").to_answer();
        unavailable.headers.extend(self.stand_in.rules.retry_after.map(retry_after_header));
        CommonRefusals {
            server_error: SalesforceRefusal::new("UNKNOWN_EXCEPTION").to_answer(),
            unavailable,
            throttled: SalesforceRefusal::new("REQUEST_LIMIT_EXCEEDED").to_answer(),
        }
    }

    fn plan_call(
        &self,
        object: &str,
        id_field: &str,
        schema: &ModuleSchema,
        collection: &CollectionRequest,
    ) -> Result<PlannedCall, SalesforceRefusal> {
        let check_fields = [id_field.to_owned()];
        let call = UpsertCall {
            stand_in: &self.stand_in,
            module: object,
            schema,
            check_fields: &check_fields,
            lock_codes: &LOCK_CODES,
        };
        let mut state = self.stand_in.lock();
        let state = &mut *state;
        state.tally.module(object).count_call(collection.records.len());
        call.count_repeated_values(state, &collection.records.iter().collect::<Vec<_>>());
        let mut records = Vec::with_capacity(collection.records.len());
        for record in &collection.records {
            let has_id = record.keys().any(|field| field.eq_ignore_ascii_case("id"));
            if has_id {
                let note = || format!("{object}: a record with id beside its external id");
                state.tally.count_violation(Violation::IdInRecord, note);
            }
            let checked = call.check_record(state, record);
            let errors = self.find_errors(object, id_field, collection, &checked, has_id)?;
            records.push(match errors.as_slice() {
                [] => ObjectRecordPlan::Apply { target: checked.target, fields: checked.fields },
                _ => ObjectRecordPlan::Refused(errors),
            });
        }
        let records_at_arrival = count_records(state.storage.module(object));
        let is_all_or_none = collection.is_all_or_none;
        Ok(PlannedCall { object: object.to_owned(), records_at_arrival, is_all_or_none, records })
    }

    /// All errors of a record; what the parser finds may refuse the whole call.
    fn find_errors(
        &self,
        object: &str,
        id_field: &str,
        collection: &CollectionRequest,
        checked: &CheckedRecord,
        has_id: bool,
    ) -> Result<Vec<Value>, SalesforceRefusal> {
        if let Some(demanded) = &checked.demanded {
            if is_call_code(&demanded.code) {
                return Err(SalesforceRefusal::new(&demanded.code));
            }
            return Ok(demanded_errors(demanded));
        }
        let unknown = checked.unknown_fields.iter().filter(|field| !field.eq_ignore_ascii_case("id"));
        let mut parser_errors: Vec<Value> = unknown.map(|field| unknown_field_error(object, field)).collect();
        let mut errors = Vec::new();
        for (field, problem) in &checked.problems {
            let errors = if is_parser_problem(problem) { &mut parser_errors } else { &mut errors };
            errors.push(field_error(field, problem));
        }
        if let (Some(first), FieldErrorScope::Call) = (parser_errors.first(), self.options.field_errors) {
            let text = |name: &str| first[name].as_str().unwrap_or_default();
            return Err(SalesforceRefusal::with_message(text("statusCode"), text("message")));
        }
        parser_errors.append(&mut errors);
        let mut errors = parser_errors;
        if has_id {
            errors.push(record_error("INVALID_FIELD", "Id must not be given beside an external id", &["Id"]));
        }
        match checked.fields.get(id_field).and_then(index_key) {
            // [from memory]
            None => errors.push(record_error("MISSING_ARGUMENT", &format!("{id_field} not specified"), &[])),
            Some(id) if collection.repeated_ids.contains(&id) => {
                errors.push(repeated_id_error(id_field, &id));
            }
            Some(_) => {}
        }
        if let UpsertTarget::Ambiguous { field, .. } = &checked.target {
            errors.push(ambiguous_id_error(field));
        }
        Ok(errors)
    }

    fn apply_records(&self, state: &mut CrmState, call: PlannedCall) -> CrmAnswer {
        let PlannedCall { object, records_at_arrival, is_all_or_none, records } = call;
        let mut run = ApplyRun::new(&self.stand_in, &object, records_at_arrival);
        let would_fail = |record: &ObjectRecordPlan| match record {
            ObjectRecordPlan::Refused(_) => true,
            ObjectRecordPlan::Apply { target, fields } => run.find_conflict(state, target, fields).is_some(),
        };
        let is_rolled_back = is_all_or_none && records.iter().any(would_fail);
        let mut results = Vec::with_capacity(records.len());
        for record in records {
            let errors = match record {
                ObjectRecordPlan::Refused(errors) => Err(errors),
                ObjectRecordPlan::Apply { target, fields } if is_rolled_back => {
                    match run.find_conflict(state, &target, &fields) {
                        Some((field, _)) => Err(vec![duplicate_value_error(&field, "<unknown>")]),
                        None => Err(vec![record_error(ROLLED_BACK, ROLLED_BACK_MESSAGE, &[])]),
                    }
                }
                ObjectRecordPlan::Apply { target, fields } => {
                    store_record(state, &mut run, &object, &target, fields)
                }
            };
            results.push(errors.unwrap_or_else(|errors| {
                let code = errors.first().and_then(|error| error["statusCode"].as_str()).unwrap_or_default();
                state.tally.module(&object).count_refused(code);
                refused_result(&errors)
            }));
        }
        let mut answer = CrmAnswer::new(200, Value::Array(results));
        if let Some(limit) = state.limits.rules.credits_max {
            let used = state.limits.credits_spent(monotonic_now());
            answer.headers.push((USAGE_HEADER, format!("api-usage={used}/{limit}")));
        }
        answer
    }
}

fn store_record(
    state: &mut CrmState,
    run: &mut ApplyRun<'_>,
    object: &str,
    target: &UpsertTarget,
    fields: Fields,
) -> Result<Value, Vec<Value>> {
    let (record, is_created) = match run.apply_record(state, target, fields) {
        UpsertResult::Created(record) => (record, true),
        UpsertResult::Updated { record, .. } => (record, false),
        UpsertResult::Conflict { record, field } => {
            return Err(vec![duplicate_value_error(&field, &record.id)]);
        }
        // Records are never deleted: only an object that went away would lead here.
        UpsertResult::NotFound => {
            return Err(vec![record_error("ENTITY_IS_DELETED", "entity is deleted", &[])]);
        }
    };
    state.tally.module(object).count_workflow_run(FLOW, is_created);
    Ok(success_result(&record, is_created))
}
