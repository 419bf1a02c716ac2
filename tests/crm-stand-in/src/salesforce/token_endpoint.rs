//! `POST /services/oauth2/token`: access tokens by client credentials. How long they live is not said.

use std::future::pending;

use actix_web::HttpResponse;
use actix_web::web::{Bytes, Data};
use serde_json::json;

use crate::call::{CrmAnswer, build_response, send_error_page};
use crate::clock::{monotonic_now, wall_now};
use crate::form::parse_form;

use super::SalesforceCrm;

pub(super) async fn issue_token(body: Bytes, crm: Data<SalesforceCrm>) -> HttpResponse {
    match crm.stand_in.take_token_fault().await {
        Some("token-hang") => pending().await,
        Some("token-error") => send_error_page(&crm.stand_in),
        None => build_response(&crm.answer_token_request(&body)),
        // [from memory] As the log-in limit of an organization answers.
        Some(_) => build_response(&refuse_token("login_rate_exceeded", "login rate exceeded")),
    }
}

fn refuse_token(error: &str, description: &str) -> CrmAnswer {
    CrmAnswer::new(400, json!({ "error": error, "error_description": description }))
}

impl SalesforceCrm {
    fn answer_token_request(&self, body: &[u8]) -> CrmAnswer {
        let rules = &self.stand_in.rules;
        let fields = parse_form(body);
        let value_of = |name: &str| fields.get(name).map_or("", String::as_str);
        if value_of("grant_type") != "client_credentials" {
            return refuse_token("unsupported_grant_type", "grant type not supported");
        }
        if value_of("client_id") != rules.client_id {
            return refuse_token("invalid_client_id", "client identifier invalid");
        }
        if value_of("client_secret") != rules.client_secret {
            return refuse_token("invalid_client", "invalid client credentials");
        }
        let mut state = self.stand_in.lock();
        let state = &mut *state;
        match state.tokens.issue(&mut state.rng, monotonic_now()) {
            Ok(token) => CrmAnswer::new(
                200,
                json!({
                    "access_token": token,
                    "signature": "c3RhbmQtaW4=",
                    "scope": "api",
                    "instance_url": rules.origin,
                    "id": format!("{}/id/00Dxx0000001gPLEAY/005xx000001SwiUAAS", rules.origin),
                    "token_type": "Bearer",
                    "issued_at": wall_now().as_millisecond().to_string(),
                }),
            ),
            Err(_) => refuse_token("login_rate_exceeded", "login rate exceeded"),
        }
    }
}
