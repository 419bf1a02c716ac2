//! `POST /crm/v8/{module}/upsert`.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::{Bytes, Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::Value;

use crate::call::{AcceptedCall, CommonRefusals, CrmAnswer};
use crate::clock::monotonic_now;
use crate::limits::LimitReached;
use crate::schema::ModuleSchema;
use crate::state::{CallPermit, CrmState};
use crate::storage::Fields;
use crate::tally::Violation;
use crate::upsert::{ApplyRun, CheckedRecord, UpsertCall, UpsertTarget, count_records};

use super::ZohoCrm;
use super::error_entry::{
    demanded_entry, modified_details, not_an_object_entry, problems_entry, unknown_field_entry,
};
use super::record_answer::{build_answer, result_entry};
use super::refusal::{ZohoRefusal, is_call_code};
use super::upsert_request::UpsertRequest;

const LOCK_CODES: [&str; 2] = ["RECORD_LOCKED", "NOT_APPROVED"];
/// An upsert costs a credit for each of so many records.
const RECORDS_PER_CREDIT: usize = 10;
const CREDITS_HEADER: &str = "X-API-CREDITS-REMAINING";
/// The window that a refusal by the number of calls at a time names.
const CONCURRENCY_WINDOW: Duration = Duration::from_secs(1);

/// A record of a call: what it is refused with, or what is to be done.
enum ZohoRecordPlan {
    Refused(Value),
    Apply { target: UpsertTarget, fields: Fields },
}

pub(super) async fn upsert_records(
    request: HttpRequest,
    module: Path<String>,
    body: Bytes,
    crm: Data<ZohoCrm>,
) -> HttpResponse {
    match crm.accept_call(&request, &module, &body) {
        Err(refusal) => crm.refuse(&refusal),
        Ok((call, planned, features)) => {
            let (crm, module) = (Arc::clone(&crm.into_inner()), module.into_inner());
            let arrived = count_records(crm.stand_in.lock().storage.module(&module));
            let apply =
                move |state: &mut CrmState| crm.apply_records(state, &module, arrived, &features, planned);
            call.run(&request, apply).await
        }
    }
}

impl ZohoCrm {
    /// All that is decided when a call arrives.
    fn accept_call(
        &self,
        request: &HttpRequest,
        module: &str,
        body: &[u8],
    ) -> Result<(AcceptedCall, Vec<ZohoRecordPlan>, Vec<String>), ZohoRefusal> {
        self.expire_tokens_on_demand();
        self.authorize(request, module)?;
        let schema = self.find_module(module)?;
        let upsert = self.parse_request(request, body, module, schema)?;
        let records = upsert.data.len();
        let permit = self.enter_call(records)?;
        let planned = self.plan_records(module, schema, &upsert)?;
        let fault = {
            let mut state = self.stand_in.lock();
            let state = &mut *state;
            let fault = state.faults.draw_call_fault(&mut state.rng);
            if let Some(fault) = fault {
                state.tally.count_fault(fault);
            }
            fault
        };
        let stand_in = Arc::clone(&self.stand_in);
        let refusals = self.common_refusals();
        Ok((AcceptedCall { stand_in, permit, records, fault, refusals }, planned, upsert.features))
    }

    fn expire_tokens_on_demand(&self) {
        let mut state = self.stand_in.lock();
        let state = &mut *state;
        if state.faults.draw_token_expiry(&mut state.rng) {
            state.tokens.invalidate_all();
            state.tally.count_fault("expire-tokens");
        }
    }

    fn enter_call(&self, records: usize) -> Result<CallPermit, ZohoRefusal> {
        let mut state = self.stand_in.lock();
        let state = &mut *state;
        if let Some(code) = state.faults.draw_refusal(&mut state.rng) {
            return Err(ZohoRefusal::new(&code));
        }
        let retry_after = self.stand_in.rules.retry_after;
        let credits = u64::try_from(records.div_ceil(RECORDS_PER_CREDIT)).unwrap_or(u64::MAX);
        let code = self.options.limit_code.as_str();
        match state.limits.enter(records, credits, retry_after.is_some(), monotonic_now()) {
            Ok(()) => Ok(CallPermit::new(Arc::clone(&self.stand_in), records)),
            Err(LimitReached::Credits { limit }) => {
                let window = state.limits.rules.window;
                Err(ZohoRefusal::throttled(code, retry_after, limit, window))
            }
            Err(LimitReached::Calls { limit, is_known }) => {
                if is_known {
                    let note =
                        || format!("a call above the limit of {limit} at a time, which a 429 had named");
                    state.tally.count_violation(Violation::CallsAboveAnnouncedLimit, note);
                }
                let limit = u64::try_from(limit).unwrap_or(u64::MAX);
                Err(ZohoRefusal::throttled(code, retry_after, limit, CONCURRENCY_WINDOW))
            }
        }
    }

    fn common_refusals(&self) -> CommonRefusals {
        let mut unavailable = ZohoRefusal::new("SERVICE_UNAVAILABLE").to_answer(self);
        unavailable.headers.extend(self.stand_in.rules.retry_after.map(crate::call::retry_after_header));
        let code = self.options.limit_code.as_str();
        let throttled = ZohoRefusal::throttled(code, self.stand_in.rules.retry_after, 1, CONCURRENCY_WINDOW);
        CommonRefusals {
            server_error: ZohoRefusal::new("INTERNAL_ERROR").to_answer(self),
            unavailable,
            throttled: throttled.to_answer(self),
        }
    }

    fn plan_records(
        &self,
        module: &str,
        schema: &ModuleSchema,
        upsert: &UpsertRequest,
    ) -> Result<Vec<ZohoRecordPlan>, ZohoRefusal> {
        let call = UpsertCall {
            stand_in: &self.stand_in,
            module,
            schema,
            check_fields: &upsert.check_fields,
            lock_codes: &LOCK_CODES,
        };
        let mut state = self.stand_in.lock();
        let state = &mut *state;
        let objects: Vec<&Fields> = upsert.data.iter().filter_map(Value::as_object).collect();
        state.tally.module(module).count_call(upsert.data.len());
        call.count_repeated_values(state, &objects);
        let mut planned = Vec::with_capacity(upsert.data.len());
        for (position, value) in upsert.data.iter().enumerate() {
            let Some(record) = value.as_object() else {
                planned.push(ZohoRecordPlan::Refused(not_an_object_entry(position)));
                continue;
            };
            let checked = call.check_record(state, record);
            check_unmodified(state, module, upsert, &checked)?;
            planned.push(plan_record(position, module, checked)?);
        }
        Ok(planned)
    }

    fn apply_records(
        &self,
        state: &mut CrmState,
        module: &str,
        records_at_arrival: usize,
        features: &[String],
        planned: Vec<ZohoRecordPlan>,
    ) -> CrmAnswer {
        let mut run = ApplyRun::new(&self.stand_in, module, records_at_arrival);
        let mut entries = Vec::with_capacity(planned.len());
        for (position, record) in planned.into_iter().enumerate() {
            let entry = match record {
                ZohoRecordPlan::Refused(entry) => entry,
                ZohoRecordPlan::Apply { target, fields } => {
                    let result = run.apply_record(state, &target, fields);
                    result_entry(position, module, &result)
                }
            };
            if entry["status"] == "success" {
                for feature in features {
                    state.tally.module(module).count_workflow_run(feature, entry["action"] == "insert");
                }
            }
            entries.push(entry);
        }
        let mut answer = build_answer(state, module, &entries);
        let left = state.limits.credits_left_if_scarce(monotonic_now());
        answer.headers.extend(left.map(|left| (CREDITS_HEADER, left.to_string())));
        answer
    }
}

/// A record that was changed after `If-Unmodified-Since` refuses the whole call.
fn check_unmodified(
    state: &CrmState,
    module: &str,
    upsert: &UpsertRequest,
    checked: &CheckedRecord,
) -> Result<(), ZohoRefusal> {
    let (Some(since), UpsertTarget::Existing { record, .. }) = (upsert.unmodified_since, &checked.target)
    else {
        return Ok(());
    };
    let stored = state.storage.module(module).and_then(|storage| storage.records.get(*record));
    match stored.filter(|stored| stored.modified.as_second() > since.as_second()) {
        Some(stored) => Err(ZohoRefusal::with_details("ALREADY_MODIFIED", modified_details(stored))),
        None => Ok(()),
    }
}

fn plan_record(position: usize, module: &str, checked: CheckedRecord) -> Result<ZohoRecordPlan, ZohoRefusal> {
    if let Some(demanded) = &checked.demanded {
        if is_call_code(&demanded.code) {
            return Err(ZohoRefusal::new(&demanded.code));
        }
        return Ok(ZohoRecordPlan::Refused(demanded_entry(position, module, demanded)));
    }
    if let Some(field) = checked.unknown_fields.first() {
        return Ok(ZohoRecordPlan::Refused(unknown_field_entry(position, field)));
    }
    if !checked.problems.is_empty() {
        return Ok(ZohoRecordPlan::Refused(problems_entry(position, &checked.problems)));
    }
    let target = match checked.target {
        // [from memory] Of several, the oldest is updated.
        UpsertTarget::Ambiguous { record, field } => UpsertTarget::Existing { record, field },
        target => target,
    };
    Ok(ZohoRecordPlan::Apply { target, fields: checked.fields })
}
