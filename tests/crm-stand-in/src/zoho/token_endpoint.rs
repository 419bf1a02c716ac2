//! `POST /oauth/v2/token`: access tokens for a refresh token.

use std::collections::HashMap;
use std::future::pending;

use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

use crate::call::{CrmAnswer, build_response, send_error_page};
use crate::clock::monotonic_now;
use crate::form::parse_form;
use crate::tally::Violation;

use super::ZohoCrm;

/// Zoho refuses token requests with status 200.
const REFUSAL_STATUS: u16 = 200;

pub(super) async fn issue_token(request: HttpRequest, body: Bytes, crm: Data<ZohoCrm>) -> HttpResponse {
    match crm.stand_in.take_token_fault().await {
        Some("token-hang") => pending().await,
        Some("token-error") => send_error_page(&crm.stand_in),
        None => {
            let mut fields = parse_form(request.query_string().as_bytes());
            fields.extend(parse_form(&body));
            answer(&crm.answer_token_request(&fields))
        }
        Some(_) => answer(&access_denied()),
    }
}

fn answer(body: &Value) -> HttpResponse {
    build_response(&CrmAnswer::new(REFUSAL_STATUS, body.clone()))
}

/// Too many requests, again with status 200.
fn access_denied() -> Value {
    json!({
        "error": "Access Denied",
        "error_description": "You have made too many requests continuously. Please try again after some time.",
        "status": "failure",
    })
}

impl ZohoCrm {
    fn answer_token_request(&self, fields: &HashMap<String, String>) -> Value {
        let rules = &self.stand_in.rules;
        let value_of = |name: &str| fields.get(name).map_or("", String::as_str);
        if value_of("grant_type") != "refresh_token" {
            return json!({ "error": "unsupported_grant_type" });
        }
        if value_of("client_id") != rules.client_id {
            return json!({ "error": "invalid_client" });
        }
        if value_of("client_secret") != rules.client_secret {
            return json!({ "error": "invalid_client_secret" });
        }
        if value_of("refresh_token") != self.options.refresh_token {
            return json!({ "error": "invalid_code" });
        }
        let mut state = self.stand_in.lock();
        let state = &mut *state;
        let Ok(token) = state.tokens.issue(&mut state.rng, monotonic_now()) else {
            let note = || "a token request above the limit of the window".to_owned();
            state.tally.count_violation(Violation::TokenRequestsAboveLimit, note);
            return access_denied();
        };
        json!({
            "access_token": token,
            "scope": self.options.scope,
            "api_domain": rules.origin,
            "token_type": "Bearer",
            "expires_in": rules.tokens.lifetime.as_secs(),
        })
    }
}
