//! Zoho CRM, version 8 of its REST API.
//!
//! What is marked [from memory] below is not confirmed by the vendor's documentation.

mod error_entry;
mod record_answer;
mod refusal;
mod token_endpoint;
mod upsert_endpoint;
mod upsert_request;

use std::sync::Arc;

use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use crate::call::send_answer;
use crate::options::ZohoOptions;
use crate::state::StandIn;
use crate::tally::Violation;
use refusal::ZohoRefusal;

/// What the handlers share.
pub(crate) struct ZohoCrm {
    pub(crate) stand_in: Arc<StandIn>,
    pub(crate) options: ZohoOptions,
}

impl ZohoCrm {
    /// Answers a call that is refused as a whole.
    fn refuse(&self, refusal: &ZohoRefusal) -> HttpResponse {
        self.stand_in.lock().tally.count_refused_call(refusal.code());
        send_answer(&self.stand_in, &refusal.to_answer(self))
    }
}

pub(crate) fn register_routes(config: &mut ServiceConfig, crm: &Arc<ZohoCrm>) {
    config
        .app_data(Data::from(Arc::clone(crm)))
        .service(web::resource("/oauth/v2/token").route(web::post().to(token_endpoint::issue_token)))
        .service(
            web::resource("/crm/v8/{module}/upsert")
                .route(web::post().to(upsert_endpoint::upsert_records))
                .default_service(web::to(refuse_method)),
        )
        .service(
            web::resource("/crm/v8/{module}")
                .route(web::post().to(refuse_insert))
                .default_service(web::to(refuse_method)),
        )
        .default_service(web::to(refuse_path));
}

async fn refuse_method(crm: Data<ZohoCrm>) -> HttpResponse {
    crm.refuse(&ZohoRefusal::new("INVALID_REQUEST_METHOD"))
}

async fn refuse_path(crm: Data<ZohoCrm>) -> HttpResponse {
    crm.refuse(&ZohoRefusal::new("INVALID_URL_PATTERN"))
}

/// The real one would insert; a repeated insert makes a duplicate, so that no client may ever call it.
async fn refuse_insert(request: HttpRequest, crm: Data<ZohoCrm>) -> HttpResponse {
    let note = || format!("POST {}: an insert, which makes duplicates when it is repeated", request.path());
    crm.stand_in.lock().tally.count_violation(Violation::InsertCalled, note);
    crm.refuse(&ZohoRefusal::new("NO_PERMISSION"))
}
