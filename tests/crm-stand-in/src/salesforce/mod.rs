//! Salesforce: upserts of its `SObject` collections by an external id.
//!
//! What is marked [from memory] below is not confirmed by the vendor's documentation.

mod collection_endpoint;
mod collection_request;
mod record_error;
mod refusal;
mod token_endpoint;

use std::sync::Arc;

use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use crate::call::send_answer;
use crate::options::SalesforceOptions;
use crate::state::StandIn;
use crate::tally::Violation;
use refusal::SalesforceRefusal;

/// What the handlers share.
pub(crate) struct SalesforceCrm {
    pub(crate) stand_in: Arc<StandIn>,
    pub(crate) options: SalesforceOptions,
}

impl SalesforceCrm {
    /// Answers a call that is refused as a whole.
    fn refuse(&self, refusal: &SalesforceRefusal) -> HttpResponse {
        self.stand_in.lock().tally.count_refused_call(refusal.code());
        send_answer(&self.stand_in, &refusal.to_answer())
    }
}

pub(crate) fn register_routes(config: &mut ServiceConfig, crm: &Arc<SalesforceCrm>) {
    config
        .app_data(Data::from(Arc::clone(crm)))
        .service(web::resource("/services/oauth2/token").route(web::post().to(token_endpoint::issue_token)))
        .service(
            web::resource("/services/data/{version}/composite/sobjects/{object}/{id_field}")
                .route(web::patch().to(collection_endpoint::upsert_collection))
                .default_service(web::to(refuse_method)),
        )
        .service(
            web::resource("/services/data/{version}/composite/sobjects").route(web::post().to(refuse_insert)),
        )
        .service(
            web::resource("/services/data/{version}/sobjects/{object}").route(web::post().to(refuse_insert)),
        )
        .default_service(web::to(refuse_path));
}

async fn refuse_method(request: HttpRequest, crm: Data<SalesforceCrm>) -> HttpResponse {
    let message = format!("HTTP Method '{}' not allowed. Allowed are PATCH", request.method());
    crm.refuse(&SalesforceRefusal::with_message("METHOD_NOT_ALLOWED", &message))
}

async fn refuse_path(crm: Data<SalesforceCrm>) -> HttpResponse {
    crm.refuse(&SalesforceRefusal::new("NOT_FOUND"))
}

/// The real one would insert; a repeated insert makes a duplicate, so that no client may ever call it.
async fn refuse_insert(request: HttpRequest, crm: Data<SalesforceCrm>) -> HttpResponse {
    let note = || format!("POST {}: an insert, which makes duplicates when it is repeated", request.path());
    crm.stand_in.lock().tally.count_violation(Violation::InsertCalled, note);
    crm.refuse(&SalesforceRefusal::new("INSUFFICIENT_ACCESS"))
}
