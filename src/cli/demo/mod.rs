//! `fieldsync demo`: the first command of a new user. It runs the real programs in a temporary directory, with a slow
//! server behind a gateway with a short time limit, and with a record that makes the server hang; or with a CRM behind the
//! gateway. The counts at the end come from the server or the CRM.

mod crm;
mod environment;
mod records;
mod server;
mod summary;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::context::CommandContext;
use super::failure::{CommandFailure, INTERRUPTED};
use super::sync::wait_until_settled;
use crate::api::{Accepted, BatchList, RecordPage};
use crate::client::{Client, NDJSON, decode_json};
use crate::clock::Clock;
use crate::exit;
use crate::model::RecordId;
use crm::CrmTarget;
use environment::DemoEnvironment;
use server::{ServerBehavior, count_at_server, start_slow_server};
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
/// Exists where the package is installed.
const SERVICE_FILE: &str = "/usr/lib/systemd/system/fieldsync.service";
/// The batches that the summary describes.
const BATCHES_PATH: &str = "/v1/batches?limit=500";

#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// NDJSON file with records to use instead of 149 generated ones
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,

    /// Put a CRM behind the gateway, played by fieldsync-crm-stand-in: zoho (if no CRM is named), salesforce, or the
    /// address of a stand-in that runs already, such as <http://127.0.0.1:9090>
    #[arg(long, value_name = "CRM", num_args = 0..=1, default_missing_value = "zoho", conflicts_with = "input")]
    crm: Option<CrmTarget>,
}

pub(crate) async fn run(args: &DemoArgs, context: &mut CommandContext<'_>) -> Result<u8, CommandFailure> {
    if let Some(target) = &args.crm {
        return crm::run(target, context).await;
    }
    let records = match &args.input {
        Some(path) => records::read_records(path)?,
        None => records::generate_records(),
    };
    let clock = Clock::start();
    let count = u32::try_from(records.len()).unwrap_or(u32::MAX).max(1);
    let timing =
        ServerBehavior { limit: GATEWAY_TIME_LIMIT, record_cost: RECORD_COST.min(TOTAL_COST_MAX / count) };
    let mut environment = DemoEnvironment::create()?;
    let server = start_slow_server(&mut environment, &timing)?;
    environment.start_daemon(server, timing.limit)?;
    let demo = async {
        let summary = run_demo(&records, &timing, server, &mut environment, context).await?;
        let seconds = clock.now();
        report_result(context, summary.to_json(seconds), summary.describe(seconds), summary.is_sound())
    };
    let result = timeout(DEMO_TIMEOUT, demo).await;
    finish_demo(environment, result)
}

/// Stops the programs. After a failure, their logs are kept.
fn finish_demo(
    mut environment: DemoEnvironment,
    result: Result<Result<u8, CommandFailure>, Elapsed>,
) -> Result<u8, CommandFailure> {
    let outcome = result.unwrap_or_else(|_| {
        Err(CommandFailure::failed(format!("the demo did not end within {} s.", DEMO_TIMEOUT.as_secs())))
    });
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
    server: SocketAddr,
    environment: &mut DemoEnvironment,
    context: &mut CommandContext<'_>,
) -> Result<DemoSummary, CommandFailure> {
    let client = Client::new(environment.socket_path());
    context.client = client.clone();
    environment.wait_until_ready()?;
    let enqueued = enqueue_records(&client, records).await?;
    if !context.json {
        context.print_line_now(format!(
            "{} records are on disk. The gateway allows {} ms for a batch, the server\nneeds {} ms for each record, and one record makes it hang.",
            enqueued.len(),
            timing.limit.as_millis(),
            timing.record_cost.as_millis(),
        ))?;
    }
    wait_until_settled(context, Duration::ZERO, None).await?;
    let quarantined: RecordPage = decode_json(&client.get("/v1/records?state=QUARANTINED").await?)?;
    let batches: BatchList = decode_json(&client.get(BATCHES_PATH).await?)?;
    let server = count_at_server(server).await?;
    Ok(DemoSummary {
        enqueued,
        quarantined: quarantined.records,
        batches: batches.batches,
        server,
        timing: *timing,
    })
}

async fn enqueue_records(client: &Client, records: &[String]) -> Result<Vec<RecordId>, CommandFailure> {
    let mut enqueued = Vec::new();
    for chunk in records.chunks(CHUNK_RECORDS) {
        let body = chunk.join("\n").into();
        let accepted: Accepted = decode_json(&client.post("/v1/records", NDJSON, body).await?)?;
        enqueued.extend(accepted.ids);
    }
    Ok(enqueued)
}

/// What to do after the demo.
fn next_steps(is_installed: bool) -> &'static [&'static str] {
    if is_installed {
        &[
            "",
            "Next",
            "  Connect this device to your server:",
            "    sudo fieldsync setup --url https://YOUR-SERVER --token-file FILE",
            "  Then enqueue your records, and follow them:",
            "    fieldsync enqueue FILE",
            "    fieldsync status --watch",
        ]
    } else {
        &[
            "",
            "Next",
            "  Build the package in a clone of the repository, and install it (docs/install.md):",
            "    sudo apt install \"$(packaging/build -p fieldsync)\"",
            "  Then connect the device to your server:",
            "    sudo fieldsync setup --url https://YOUR-SERVER --token-file FILE",
        ]
    }
}

/// Prints a summary, which must be sound.
fn report_result(
    context: &mut CommandContext<'_>,
    json: String,
    lines: Vec<String>,
    is_sound: bool,
) -> Result<u8, CommandFailure> {
    if context.json {
        context.print_line(json)?;
    } else {
        let next_steps = next_steps(Path::new(SERVICE_FILE).exists());
        for line in lines.into_iter().chain(next_steps.iter().map(|line| (*line).to_owned())) {
            context.print_wrapped(line)?;
        }
    }
    if is_sound {
        return Ok(exit::DONE);
    }
    Err(CommandFailure::failed("records were lost or duplicated, which must never happen."))
}
