//! `fieldsync telemetry`: what the daemon has measured, as tables with small charts, or as a page.

mod charts;
mod findings;
mod report;
mod tables;
#[cfg(test)]
mod tests;
mod words;

use clap::Subcommand;

use super::context::CommandContext;
use super::failure::CommandFailure;
use crate::exit;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
On a terminal, there are small charts beside the numbers. --json prints the
measurements as the daemon reports them.")]
pub(crate) struct TelemetryArgs {
    #[command(subcommand)]
    verb: Option<TelemetryVerb>,
}

#[derive(Debug, Subcommand)]
enum TelemetryVerb {
    /// Write a report with plots as one HTML page
    Report(report::ReportArgs),
}

impl TelemetryArgs {
    /// Whether the output may be longer than a screen, and is complete at once.
    pub(crate) fn is_paged(&self) -> bool {
        self.verb.as_ref().is_none_or(|TelemetryVerb::Report(args)| args.is_text())
    }
}

pub(crate) async fn run(
    args: &TelemetryArgs,
    context: &mut CommandContext<'_>,
) -> Result<u8, CommandFailure> {
    if let Some(TelemetryVerb::Report(args)) = &args.verb {
        return report::run(args, context).await;
    }
    let response = context.client.get("/v1/telemetry").await?;
    context.print_response(&response, |context, report| tables::print_tables(context, &report))?;
    Ok(exit::DONE)
}
