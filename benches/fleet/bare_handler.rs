//! What the gateway is compared to: a handler that parses a batch and answers that all of it is applied, and does nothing
//! else. It has the gateway's HTTP server, and runs as a process of its own.

use std::net::SocketAddr;

use actix_web::web::{self, Bytes, PayloadConfig};
use actix_web::{App, HttpResponse, HttpServer};
use clap::Args;
use fieldsync::protocol::wire::{BATCH_PATH, BatchRequest, BatchResponse, RecordResult, RecordStatus};

/// As many as the gateway has.
const WORKER_THREADS: usize = 2;
const BODY_BYTES_MAX: usize = 8 << 20;

/// Runs as the handler until it is killed.
#[derive(Args)]
pub(crate) struct BareHandlerProcess {
    #[arg(long)]
    listen: SocketAddr,
}

impl BareHandlerProcess {
    pub(crate) fn run(&self) {
        let server = HttpServer::new(|| {
            App::new()
                .app_data(PayloadConfig::new(BODY_BYTES_MAX))
                .route(BATCH_PATH, web::post().to(answer_batch))
        });
        let server = server.workers(WORKER_THREADS).bind(self.listen).expect("the port is free");
        println!("listening on http://{}", server.addrs()[0]);
        actix_web::rt::System::new().block_on(server.run()).expect("the server runs");
    }
}

async fn answer_batch(body: Bytes) -> HttpResponse {
    let batch: BatchRequest = serde_json::from_slice(&body).expect("a batch of the bench");
    let results =
        batch.records.iter().map(|record| RecordResult::new(record.id, RecordStatus::Applied)).collect();
    HttpResponse::Ok().json(BatchResponse { batch_id: batch.batch_id, replayed: false, results })
}
