//! `fieldsync demo`: the first command of a new user. It runs the real programs in a temporary directory, with a slow
//! server behind a gateway with a short time limit, and with a record that makes the server hang. The counts at the end
//! come from the server.

mod environment;
mod records;
mod summary;

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::timeout;

use super::context::CommandContext;
use super::failure::{CommandFailure, INTERRUPTED};
use super::sync::wait_until_settled;
use crate::api::{Accepted, BatchList, RecordPage};
use crate::client::{Client, NDJSON, decode_json};
use crate::clock::Clock;
use crate::exit;
use environment::{DemoEnvironment, ServerBehavior};
use summary::DemoSummary;

/// The gateway's time limit for a batch.
const GATEWAY_TIME_LIMIT: Duration = Duration::from_millis(600);
/// Processing time of a record: a first batch of 25 takes longer than the limit.
const RECORD_COST: Duration = Duration::from_millis(30);
/// Processing time of all records together, so that a large input ends in time, too.
const TOTAL_COST_MAX: Duration = Duration::from_secs(5);
/// A demo that takes longer has failed.
const DEMO_TIMEOUT: Duration = Duration::from_mins(1);
/// Records in one request.
const CHUNK_RECORDS: usize = 1000;
/// The batches that the summary describes.
const BATCHES_PATH: &str = "/v1/batches?limit=500";

#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// NDJSON file with records to use instead of 149 generated ones
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
}

pub(crate) async fn run(args: &DemoArgs, context: &mut CommandContext<'_>) -> Result<u8, CommandFailure> {
    let records = match &args.input {
        Some(path) => records::read_records(path)?,
        None => records::generate_records(),
    };
    let clock = Clock::start();
    let count = u32::try_from(records.len()).unwrap_or(u32::MAX).max(1);
    let timing =
        ServerBehavior { limit: GATEWAY_TIME_LIMIT, record_cost: RECORD_COST.min(TOTAL_COST_MAX / count) };
    let mut environment = DemoEnvironment::start_programs(&timing)?;
    let result = timeout(DEMO_TIMEOUT, run_demo(&records, &timing, &mut environment, context)).await;
    let outcome = match result {
        Ok(Ok(summary)) => report(&summary, clock, context),
        Ok(Err(failure)) => Err(failure),
        Err(_) => {
            Err(CommandFailure::failed(format!("the demo did not end within {} s.", DEMO_TIMEOUT.as_secs())))
        }
    };
    environment.stop_programs();
    if matches!(&outcome, Err(failure) if failure.exit == INTERRUPTED) {
        return Err(CommandFailure::interrupted("the demo was interrupted. Nothing of it is left."));
    }
    outcome.map_err(|failure| CommandFailure {
        message: format!(
            "{} The logs of the programs are kept in {}.",
            failure.message,
            environment.keep_directory().display()
        ),
        ..failure
    })
}

async fn run_demo(
    records: &[String],
    timing: &ServerBehavior,
    environment: &mut DemoEnvironment,
    context: &mut CommandContext<'_>,
) -> Result<DemoSummary, CommandFailure> {
    let client = Client::new(environment.socket_path());
    context.client = client.clone();
    environment.wait_until_ready()?;
    let mut enqueued = Vec::new();
    for chunk in records.chunks(CHUNK_RECORDS) {
        let body = chunk.join("\n").into();
        let accepted: Accepted = decode_json(&client.post("/v1/records", NDJSON, body).await?)?;
        enqueued.extend(accepted.ids);
    }
    if !context.json {
        context.print_line_now(format!(
            "{} records are on disk. The gateway allows {} ms for a batch, the server\nneeds {} ms for each record, and one record makes it hang.",
            enqueued.len(),
            timing.limit.as_millis(),
            timing.record_cost.as_millis(),
        ))?;
    }
    wait_until_settled(context, Duration::ZERO).await?;
    let quarantined: RecordPage = decode_json(&client.get("/v1/records?state=QUARANTINED").await?)?;
    let batches: BatchList = decode_json(&client.get(BATCHES_PATH).await?)?;
    let server = environment.count_at_server().await?;
    Ok(DemoSummary {
        enqueued,
        quarantined: quarantined.records,
        batches: batches.batches,
        server,
        timing: *timing,
    })
}

fn report(
    summary: &DemoSummary,
    clock: Clock,
    context: &mut CommandContext<'_>,
) -> Result<u8, CommandFailure> {
    let seconds = clock.now();
    if context.json {
        context.print_line(summary.to_json(seconds))?;
    } else {
        for line in summary.describe(seconds) {
            context.print_wrapped(line)?;
        }
    }
    if summary.is_sound() {
        return Ok(exit::DONE);
    }
    Err(CommandFailure::failed("records were lost or duplicated, which must never happen."))
}
