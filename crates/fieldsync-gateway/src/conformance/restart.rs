//! Points about a restart of the server: what it acknowledged, it still knows.

use std::io;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::finding::{Finding, PointResult, require};
use super::point::{KNOW_BATCHES, KNOW_RECORDS, Point};
use super::request::KitRequest;
use super::server::TestedServer;
use crate::protocol::wire::RecordStatus;

/// A restart that takes longer has failed.
const RESTART_TIMEOUT: Duration = Duration::from_mins(5);

pub(super) const POINTS: &[Point] = &[
    Point {
        id: "restart.replay",
        title: "After a restart, a resend and an outcome query get the first response",
        paragraph: KNOW_BATCHES,
        check: |server| Box::pin(responses_survive_a_restart(server)),
    },
    Point {
        id: "restart.records",
        title: "After a restart, records are known",
        paragraph: KNOW_RECORDS,
        check: |server| Box::pin(records_survive_a_restart(server)),
    },
];

async fn responses_survive_a_restart(server: &TestedServer) -> PointResult {
    let command = restart_command(server)?;
    let batch = server.sample_batch(1)?;
    let first = server.submit(&batch).await?;
    restart(server, command).await?;
    for request in [KitRequest::resend(&batch, 2), KitRequest::look_up(batch.device, batch.id)] {
        let found = server.send(&request).await?.read_results(batch.id)?;
        let holds = found.is_replayed && found.results == first.results;
        require(holds, format!("`\"replayed\": true` with the results {}", first.results), || {
            format!("{} for {}", found.text, request.method)
        })?;
    }
    Ok(())
}

async fn records_survive_a_restart(server: &TestedServer) -> PointResult {
    let command = restart_command(server)?;
    let batch = server.sample_batch(1)?;
    server.submit(&batch).await?;
    restart(server, command).await?;
    let results = server.submit(&batch.under_new_id()).await?;
    results.require_all(&batch, RecordStatus::Duplicate, "it was stored before the restart")
}

fn restart_command(server: &TestedServer) -> PointResult<String> {
    server.restart_command.clone().ok_or_else(|| Finding::skipped("there is no --restart-command"))
}

/// Runs the command of the caller, and waits until the server responds.
async fn restart(server: &TestedServer, command: String) -> PointResult {
    let fail = |found: String| Finding::failed("a --restart-command that ends with exit code 0", found);
    let status = timeout(RESTART_TIMEOUT, spawn_blocking(move || run_command(&command)))
        .await
        .map_err(|_| fail("it does not end".into()))?
        .map_err(|error| fail(error.to_string()))?
        .map_err(|error| fail(error.to_string()))?;
    if !status.success() {
        return Err(fail(status.to_string()));
    }
    server.await_response().await
}

/// Its output goes to standard error: standard output has the report.
fn run_command(command: &str) -> io::Result<ExitStatus> {
    Command::new("sh").args(["-c", command]).stdin(Stdio::null()).stdout(io::stderr()).status()
}
