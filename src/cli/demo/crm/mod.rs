//! `fieldsync demo --crm`: the gateway hands the records over to a CRM, which gives a verdict on each of them. A stand-in
//! plays the CRM. The counts at the end come from the stand-in.

mod gateway_file;
mod records;
mod stand_in;
mod summary;
mod target;

use std::time::Duration;

use tokio::time::timeout;

use super::environment::{DemoEnvironment, GATEWAY_PROGRAM};
use super::{DEMO_TIMEOUT, enqueue_records, finish_demo, report_result};
use crate::api::{RecordDetail, RecordPage};
use crate::cli::context::CommandContext;
use crate::cli::failure::CommandFailure;
use crate::cli::sync::wait_until_settled;
use crate::client::{Client, decode_json};
use crate::clock::Clock;
use crate::model::RecordId;
use stand_in::StandIn;
use summary::CrmDemoSummary;
pub(super) use target::CrmTarget;

/// The CRM's time limit for a call.
const CRM_TIME_LIMIT: Duration = Duration::from_millis(100);
/// What the CRM needs for a record: a first call of 10 takes longer than its time limit.
const RECORD_COST: Duration = Duration::from_millis(12);
/// How long the gateway waits for the CRM before it answers the device.
const TIME_BUDGET: Duration = Duration::from_secs(10);
/// How long the device waits for the gateway.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) async fn run(target: &CrmTarget, context: &mut CommandContext<'_>) -> Result<u8, CommandFailure> {
    let clock = Clock::start();
    let mut environment = DemoEnvironment::create()?;
    let crm = StandIn::find_or_start(target, &mut environment).await?;
    let config = environment
        .write_file("gateway.toml", &gateway_file::write_config(&crm, &environment.path(""), TIME_BUDGET))?;
    for (name, secret) in gateway_file::SECRETS {
        environment.write_file(name, secret)?;
    }
    let gateway = environment.start_server(GATEWAY_PROGRAM, |gateway, _| {
        gateway.args(["--listen", "127.0.0.1:0", "--config"]).arg(config);
    })?;
    environment.start_daemon(gateway, REQUEST_TIMEOUT)?;
    let result = timeout(DEMO_TIMEOUT, run_demo(&crm, &mut environment, clock, context)).await;
    finish_demo(environment, result)
}

async fn run_demo(
    crm: &StandIn,
    environment: &mut DemoEnvironment,
    clock: Clock,
    context: &mut CommandContext<'_>,
) -> Result<u8, CommandFailure> {
    let client = Client::new(environment.socket_path());
    context.client = client.clone();
    environment.wait_until_ready()?;
    let enqueued = enqueue_records(&client, &records::generate_records()).await?;
    if !context.json {
        context.print_line_now(describe_start(crm, enqueued.len()))?;
    }
    wait_until_settled(context, Duration::ZERO, None).await?;
    let quarantined: RecordPage = decode_json(&client.get("/v1/records?state=QUARANTINED").await?)?;
    let summary = CrmDemoSummary {
        kind: crm.kind,
        with_receipt: read_receipts(&client, &enqueued).await?,
        stored: crm.read_records().await?,
        report: crm.read_report().await?,
        enqueued,
        quarantined: quarantined.records,
    };
    let seconds = clock.now();
    report_result(context, summary.to_json(seconds), summary.describe(seconds), summary.is_sound())
}

fn describe_start(crm: &StandIn, records: usize) -> String {
    let name = crm.kind.title();
    let limit = if crm.is_ours {
        format!(
            " It allows {} ms for a call,\nand needs {} ms for each record.",
            CRM_TIME_LIMIT.as_millis(),
            RECORD_COST.as_millis()
        )
    } else {
        String::new()
    };
    format!(
        "{records} records are on disk, some of which {name} refuses. The gateway hands them over\nto a stand-in for \
         {name}.{limit}"
    )
}

/// The records that have a receipt, as the device shows it to applications.
async fn read_receipts(client: &Client, ids: &[RecordId]) -> Result<Vec<(RecordId, String)>, CommandFailure> {
    let mut receipts = Vec::new();
    for id in ids {
        let detail: RecordDetail = decode_json(&client.get(&format!("/v1/records/{id}")).await?)?;
        receipts.extend(detail.receipt.map(|receipt| (*id, receipt.as_str().to_owned())));
    }
    Ok(receipts)
}
