//! `/stand-in/…`: what no CRM has: the report, the stored records, and the faults.

use std::sync::Arc;

use actix_web::web::{self, Bytes, Data, Query, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::{Stream, stream};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::state::StandIn;

/// Records that are written at a time.
const PAGE_RECORDS: usize = 500;
const NDJSON_TYPE: &str = "application/x-ndjson";

#[derive(Deserialize)]
struct RecordsQuery {
    module: String,
}

pub(crate) fn register_routes(config: &mut ServiceConfig, stand_in: &Arc<StandIn>) {
    config
        .app_data(Data::from(Arc::clone(stand_in)))
        .route("/stand-in/report", web::get().to(send_report))
        .route("/stand-in/records", web::get().to(list_records))
        .service(
            web::resource("/stand-in/faults")
                .route(web::get().to(show_faults))
                .route(web::post().to(change_faults))
                .route(web::delete().to(clear_faults)),
        );
}

async fn send_report(stand_in: Data<StandIn>) -> HttpResponse {
    match stand_in.report_line() {
        Ok(report) => HttpResponse::Ok().content_type("application/json").body(report + "\n"),
        Err(error) => HttpResponse::InternalServerError().body(error.to_string()),
    }
}

async fn show_faults(stand_in: Data<StandIn>) -> HttpResponse {
    HttpResponse::Ok().json(stand_in.lock().faults.to_json())
}

async fn change_faults(body: Bytes, stand_in: Data<StandIn>) -> HttpResponse {
    let changes = serde_json::from_slice::<Value>(&body).map_err(|error| error.to_string());
    let mut state = stand_in.lock();
    match changes.and_then(|changes| state.faults.change(&changes)) {
        Ok(()) => HttpResponse::Ok().json(state.faults.to_json()),
        Err(error) => HttpResponse::BadRequest().json(json!({ "error": error })),
    }
}

async fn clear_faults(stand_in: Data<StandIn>) -> HttpResponse {
    let mut state = stand_in.lock();
    state.faults.clear();
    HttpResponse::Ok().json(state.faults.to_json())
}

async fn list_records(request: HttpRequest, stand_in: Data<StandIn>) -> HttpResponse {
    let Ok(query) = Query::<RecordsQuery>::from_query(request.query_string()) else {
        return HttpResponse::BadRequest().json(json!({ "error": "name a module: ?module=NAME" }));
    };
    if !stand_in.schema.contains_key(&query.module) {
        return HttpResponse::NotFound().json(json!({ "error": "there is no such module" }));
    }
    let lines = stream_records(stand_in.into_inner(), query.into_inner().module);
    HttpResponse::Ok().content_type(NDJSON_TYPE).streaming(lines)
}

fn stream_records(
    stand_in: Arc<StandIn>,
    module: String,
) -> impl Stream<Item = Result<Bytes, serde_json::Error>> {
    stream::try_unfold(0, move |first| {
        let page = encode_page(&stand_in, &module, first);
        async move { page }
    })
}

/// The lines from the record `first` on, and where the next page begins.
fn encode_page(
    stand_in: &StandIn,
    module: &str,
    first: usize,
) -> Result<Option<(Bytes, usize)>, serde_json::Error> {
    let state = stand_in.lock();
    let records = state.storage.module(module).map_or(&[][..], |storage| &storage.records);
    let page = records.get(first..).unwrap_or_default();
    let page = page.get(..PAGE_RECORDS).unwrap_or(page);
    let mut lines = Vec::new();
    for record in page {
        serde_json::to_writer(&mut lines, record)?;
        lines.push(b'\n');
    }
    Ok((!page.is_empty()).then(|| (lines.into(), first + page.len())))
}
