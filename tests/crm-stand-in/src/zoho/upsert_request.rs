//! Checks of a call before any of its records is looked at.

use actix_web::HttpRequest;
use actix_web::http::header::{AUTHORIZATION, HOST, IF_UNMODIFIED_SINCE};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde_json::{Value, json};

use crate::clock::monotonic_now;
use crate::schema::ModuleSchema;
use crate::tally::Violation;
use crate::tokens::TokenCheck;

use super::ZohoCrm;
use super::refusal::ZohoRefusal;

const TOKEN_SCHEME: &str = "Zoho-oauthtoken ";
const MODULE_NAME_LENGTH_MAX: usize = 25;
const FEATURES: [&str; 5] = ["workflow", "approval", "blueprint", "pathfinder", "orchestration"];
/// What runs when a call has no `trigger`.
const DEFAULT_FEATURES: [&str; 3] = ["workflow", "approval", "blueprint"];

/// The body of an upsert, checked.
#[derive(Debug)]
pub(super) struct UpsertRequest {
    pub(super) data: Vec<Value>,
    pub(super) check_fields: Vec<String>,
    /// The features that run for each record.
    pub(super) features: Vec<String>,
    pub(super) unmodified_since: Option<Timestamp>,
}

impl ZohoCrm {
    /// Who calls, and whether the caller may.
    pub(super) fn authorize(&self, request: &HttpRequest, module: &str) -> Result<(), ZohoRefusal> {
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        let domain = self.stand_in.rules.origin.split_once("://").map_or("", |(_, domain)| domain);
        if header(HOST) != Some(domain) {
            return Err(ZohoRefusal::new("INVALID_HOST"));
        }
        let token = header(AUTHORIZATION).and_then(|value| value.strip_prefix(TOKEN_SCHEME));
        let token = token.ok_or_else(|| ZohoRefusal::new("AUTHENTICATION_FAILURE"))?;
        let mut state = self.stand_in.lock();
        match state.tokens.check(token, monotonic_now()) {
            TokenCheck::Valid => {}
            TokenCheck::Invalid => return Err(ZohoRefusal::new("INVALID_TOKEN")),
            TokenCheck::UsedAfterRefusal => {
                let note = || "a token was used again after it was refused with 401".to_owned();
                state.tally.count_violation(Violation::TokenUsedAfterRefusal, note);
                return Err(ZohoRefusal::new("INVALID_TOKEN"));
            }
        }
        if !covers_module(&self.options.scope, module) {
            return Err(ZohoRefusal::new("OAUTH_SCOPE_MISMATCH"));
        }
        if self.options.forbidden_modules.iter().any(|forbidden| forbidden == module) {
            let details = json!({ "permissions": [format!("Crm_Implied_Create_{module}")] });
            return Err(ZohoRefusal::with_details("NO_PERMISSION", details));
        }
        Ok(())
    }

    pub(super) fn find_module(&self, name: &str) -> Result<&ModuleSchema, ZohoRefusal> {
        let module = self.stand_in.schema.get(name).filter(|_| name.len() <= MODULE_NAME_LENGTH_MAX);
        module.ok_or_else(|| ZohoRefusal::new("INVALID_MODULE"))
    }

    pub(super) fn parse_request(
        &self,
        request: &HttpRequest,
        body: &[u8],
        module: &str,
        schema: &ModuleSchema,
    ) -> Result<UpsertRequest, ZohoRefusal> {
        let body: Value = serde_json::from_slice(body).map_err(|_| wrong_type("body", "jsonobject", "$"))?;
        let data = match body.get("data") {
            Some(Value::Array(data)) if !data.is_empty() => data.clone(),
            None | Some(Value::Array(_)) => return Err(missing("data", "$.data")),
            Some(_) => return Err(wrong_type("data", "jsonarray", "$.data")),
        };
        if data.len() > self.options.max_records {
            let note = || format!("{module}: a call of {} records", data.len());
            self.stand_in.lock().tally.count_violation(Violation::TooManyRecords, note);
            let details = json!({ "maximum_length": self.options.max_records, "api_name": "data" });
            return Err(ZohoRefusal::with_details("LIMIT_EXCEEDED", details));
        }
        Ok(UpsertRequest {
            check_fields: self.parse_check_fields(&body, module, schema)?,
            features: parse_features(&body)?,
            unmodified_since: parse_unmodified_since(request)?,
            data,
        })
    }

    fn parse_check_fields(
        &self,
        body: &Value,
        module: &str,
        schema: &ModuleSchema,
    ) -> Result<Vec<String>, ZohoRefusal> {
        let fields = parse_texts(body, "duplicate_check_fields")?.unwrap_or_default();
        let system_field = schema.system_field.as_deref();
        if fields.is_empty() || fields.iter().any(|field| Some(field.as_str()) == system_field) {
            let note = || {
                format!("{module}: duplicate_check_fields is {fields:?}, so that records are merged by name")
            };
            self.stand_in.lock().tally.count_violation(Violation::DefaultDuplicateCheck, note);
        }
        if fields.is_empty() {
            return Ok(system_field.map(str::to_owned).into_iter().collect());
        }
        let is_searched = |field: &String| schema.is_unique(field) || Some(field.as_str()) == system_field;
        match fields.iter().position(|field| !is_searched(field)) {
            None => Ok(fields),
            Some(position) => {
                let path = format!("$.duplicate_check_fields[{position}]");
                let details = json!({ "api_name": "duplicate_check_fields", "json_path": path });
                Err(ZohoRefusal::with_details("INVALID_DATA", details))
            }
        }
    }
}

fn parse_features(body: &Value) -> Result<Vec<String>, ZohoRefusal> {
    let Some(features) = parse_texts(body, "trigger")? else {
        return Ok(DEFAULT_FEATURES.map(str::to_owned).to_vec());
    };
    if features.iter().all(|feature| FEATURES.contains(&feature.as_str())) {
        return Ok(features);
    }
    let details = json!({ "api_name": "trigger", "json_path": "$.trigger", "supported_values": FEATURES });
    Err(ZohoRefusal::with_details("INVALID_DATA", details))
}

/// An array of texts, if it is there.
fn parse_texts(body: &Value, name: &str) -> Result<Option<Vec<String>>, ZohoRefusal> {
    let Some(value) = body.get(name) else { return Ok(None) };
    let texts = value.as_array().and_then(|values| {
        values.iter().map(|value| value.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
    });
    texts.map(Some).ok_or_else(|| wrong_type(name, "jsonarray", &format!("$.{name}")))
}

/// The vendor's examples have RFC 3339; HTTP itself has the other form.
fn parse_unmodified_since(request: &HttpRequest) -> Result<Option<Timestamp>, ZohoRefusal> {
    let Some(value) = request.headers().get(IF_UNMODIFIED_SINCE) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let time = text.parse::<Timestamp>().or_else(|_| rfc2822::parse(text).map(|time| time.timestamp()));
    let details = json!({ "api_name": "If-Unmodified-Since", "expected_data_type": "datetime" });
    time.map(Some).map_err(|_| ZohoRefusal::with_details("INVALID_DATA", details))
}

fn covers_module(scopes: &str, module: &str) -> bool {
    let wanted = ["ZohoCRM.modules.ALL", "ZohoCRM.modules.CREATE"].map(str::to_lowercase);
    let own = ["ALL", "CREATE"].map(|right| format!("ZohoCRM.modules.{module}.{right}").to_lowercase());
    scopes.split([',', ' ']).any(|scope| {
        let scope = scope.to_lowercase();
        wanted.contains(&scope) || own.contains(&scope)
    })
}

fn missing(name: &str, path: &str) -> ZohoRefusal {
    ZohoRefusal::with_details("MANDATORY_NOT_FOUND", json!({ "api_name": name, "json_path": path }))
}

fn wrong_type(name: &str, expected: &str, path: &str) -> ZohoRefusal {
    let details = json!({ "expected_data_type": expected, "api_name": name, "json_path": path });
    ZohoRefusal::with_details("INVALID_DATA", details)
}
