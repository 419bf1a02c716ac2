//! `fieldsync telemetry report`: the measurements as one HTML page, for people who look at them elsewhere.

mod html;
mod page;
mod plots;
mod sections;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use page::{ReportOrigin, render_page};

use super::tables::print_tables;
use crate::api::{Status, TelemetryReport};
use crate::cli::context::CommandContext;
use crate::cli::export::ExportTarget;
use crate::cli::failure::CommandFailure;
use crate::client::decode_json;
use crate::clock::wall_ms;
use crate::exit;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The page needs no network and runs no scripts, so it can be sent by mail or
attached to a ticket. It names the device and the types of records, but no keys
and no payloads.

Examples:
  fieldsync telemetry report --html report.html
  ssh tablet-17 fieldsync telemetry report --html - > tablet-17.html")]
pub(crate) struct ReportArgs {
    /// Write a page with plots and tables to this file, which must not be a symbolic link; - is standard output
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl ReportArgs {
    /// Whether the output is text for a terminal.
    pub(super) fn is_text(&self) -> bool {
        self.html.is_none()
    }
}

pub(super) async fn run(args: &ReportArgs, context: &mut CommandContext<'_>) -> Result<u8, CommandFailure> {
    let response = context.client.get("/v1/telemetry").await?;
    let Some(file) = &args.html else {
        context.print_response(&response, |context, report| print_tables(context, &report))?;
        return Ok(exit::DONE);
    };
    let report: TelemetryReport = decode_json(&response)?;
    let status: Status = decode_json(&context.client.get("/v1/status").await?)?;
    let page = render_page(&report, &describe_origin(&status))
        .map_err(|error| CommandFailure::failed(format!("a plot cannot be drawn: {error}.")))?;
    let mut target = ExportTarget::open(Some(file), context.out)?;
    target.write_bytes(page.as_bytes())?;
    target.finish()?.report_file(context, "The report")?;
    Ok(exit::DONE)
}

fn describe_origin(status: &Status) -> ReportOrigin {
    let device =
        if status.device_name.is_empty() { status.device_id.to_string() } else { status.device_name.clone() };
    ReportOrigin { device, version: status.version.clone(), generated_at: wall_ms() }
}
