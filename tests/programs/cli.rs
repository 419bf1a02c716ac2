//! The command line as people and scripts use it: in terminals, in pipes, and by its exit codes.

mod checking;
mod completing;
mod conventions;
mod demo;
mod editing;
mod enqueueing;
mod exit_codes;
mod exporting;
mod following;
mod help;
mod hidden;
mod json;
mod logs;
mod paging;
mod reading;
mod setup;
mod telemetry;
mod terminals;
mod verbs;

use serde_json::json;

use crate::support::server::{Reply, Request, ScriptedServer};

/// A server that accepts no record.
fn rejecting() -> ScriptedServer {
    ScriptedServer::start(|request: &Request| {
        if !request.is_batch() {
            return Reply::correct(request);
        }
        let bad = json!({"status": "rejected", "code": "BAD_DATE", "message": "no such day"});
        Reply::results(request.batch_id(), &request.ids(), |_| Some(bad.clone()))
    })
}
