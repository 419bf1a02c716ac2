//! `fieldsync demo`: the first thing that a newcomer runs. The real programs, in a temporary
//! directory, against a server that is slow behind a gateway that is impatient; and a record
//! that makes the server hang. The counts at the end are taken at the server.

mod records;
mod stage;
mod summary;

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::timeout;

use super::context::Context;
use super::failure::{Failure, INTERRUPTED};
use super::sync::until_settled;
use crate::api::{Accepted, BatchList, RecordPage};
use crate::client::{Client, NDJSON, decode_json};
use crate::clock::Clock;
use crate::exit;
use stage::{Stage, Timing};
use summary::Summary;

/// The gateway's time limit for a batch.
const TIME_LIMIT: Duration = Duration::from_millis(600);
/// What a record costs the server: a first batch of 25 takes longer than the limit.
const RECORD_COST: Duration = Duration::from_millis(30);
/// What all records together may cost the server, so that a large input ends in time, too.
const TOTAL_COST: Duration = Duration::from_secs(5);
/// Something is wrong with the machine, or with us, when it takes longer.
const PATIENCE: Duration = Duration::from_mins(1);
/// Records that one request hands over.
const CHUNK: usize = 1000;
/// Batches that the story at the end looks back at.
const BATCHES: &str = "/v1/batches?limit=500";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// NDJSON to take the records from, instead of 149 made-up ones
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
}

pub(crate) async fn run(args: &Args, context: &mut Context<'_>) -> Result<u8, Failure> {
    let records = match &args.input {
        Some(path) => records::from_file(path)?,
        None => records::made_up(),
    };
    let clock = Clock::start();
    let count = u32::try_from(records.len()).unwrap_or(u32::MAX).max(1);
    let timing = Timing { limit: TIME_LIMIT, record_cost: RECORD_COST.min(TOTAL_COST / count) };
    let mut stage = Stage::set(&timing)?;
    let played = timeout(PATIENCE, play(&records, &timing, &mut stage, context)).await;
    let outcome = match played {
        Ok(Ok(summary)) => tell(&summary, clock, context),
        Ok(Err(failure)) => Err(failure),
        Err(_) => Err(Failure::failed(format!("the demo did not end within {} s.", PATIENCE.as_secs()))),
    };
    stage.clear();
    if matches!(&outcome, Err(failure) if failure.exit == INTERRUPTED) {
        return Err(Failure::interrupted("the demo was interrupted. Nothing of it is left."));
    }
    outcome.map_err(|failure| Failure {
        message: format!(
            "{} The logs of its programs are kept in {}.",
            failure.message,
            stage.keep().display()
        ),
        ..failure
    })
}

async fn play(
    records: &[String],
    timing: &Timing,
    stage: &mut Stage,
    context: &mut Context<'_>,
) -> Result<Summary, Failure> {
    let client = Client::new(stage.socket());
    context.client = client.clone();
    stage.wait_until_ready()?;
    let mut enqueued = Vec::new();
    for chunk in records.chunks(CHUNK) {
        let body = chunk.join("\n").into();
        let accepted: Accepted = decode_json(&client.post("/v1/records", NDJSON, body).await?)?;
        enqueued.extend(accepted.ids);
    }
    if !context.json {
        context.line_now(format!(
            "{} records are on disk. The gateway gives a batch {} ms, the server\nneeds {} ms a record, and one record makes it hang.",
            enqueued.len(),
            timing.limit.as_millis(),
            timing.record_cost.as_millis(),
        ))?;
    }
    until_settled(context, Duration::ZERO).await?;
    let quarantined: RecordPage = decode_json(&client.get("/v1/records?state=QUARANTINED").await?)?;
    let batches: BatchList = decode_json(&client.get(BATCHES).await?)?;
    let server = stage.count_at_server().await?;
    Ok(Summary {
        enqueued,
        quarantined: quarantined.records,
        batches: batches.batches,
        server,
        timing: *timing,
    })
}

fn tell(summary: &Summary, clock: Clock, context: &mut Context<'_>) -> Result<u8, Failure> {
    let seconds = clock.now();
    if context.json {
        context.line(summary.json(seconds))?;
    } else {
        for line in summary.story(seconds) {
            context.text(line)?;
        }
    }
    if summary.is_sound() {
        return Ok(exit::DONE);
    }
    Err(Failure::failed("records were lost or doubled, which must never happen."))
}
