//! `fieldsync-gateway devices`: the devices of the fleet on the command line.

mod output;

use std::io;

use clap::Parser;
use tokio::runtime::Builder;

use crate::admin::device_shapes::DevicePage;
use crate::admin_client::{AdminClientError, GatewayArgs};
use crate::exit;
use crate::failure::report_failure;

/// List the devices, those without contact for the longest time first
#[derive(Debug, Parser)]
#[command(
    name = "devices",
    after_help = "\
A device is overdue if it was not in contact for longer than overdue_after in
the section [fleet] of the gateway's configuration.

Exit status: 0 done, 1 failed, 2 wrong usage, 3 no gateway at the URL, 5 the
token is not accepted.

Example:
  fieldsync-gateway devices --overdue --url http://127.0.0.1:8080 \\
      --admin-token-file /etc/fieldsync-gateway/admin-token"
)]
pub struct DevicesCommand {
    #[command(flatten)]
    gateway: GatewayArgs,
    /// Only devices that are overdue
    #[arg(long)]
    overdue: bool,
    /// Maximum number of devices to list
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Only devices after this mark: the end of an earlier list
    #[arg(long, value_name = "MARK", value_parser = parse_mark)]
    after: Option<String>,
    /// Print JSON, as GET /admin/devices
    #[arg(long)]
    json: bool,
}

/// It becomes a part of a URL.
fn parse_mark(text: &str) -> Result<String, &'static str> {
    let is_allowed = |character: char| character.is_ascii_alphanumeric() || ['.', '-'].contains(&character);
    if !text.is_empty() && text.chars().all(is_allowed) {
        Ok(text.into())
    } else {
        Err("must be the mark at the end of an earlier list")
    }
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
enum DevicesError {
    #[error(transparent)]
    Client(#[from] AdminClientError),
    #[error("cannot write to standard output")]
    Output(#[from] io::Error),
    #[error("cannot start")]
    Start(#[source] io::Error),
}

impl DevicesError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Client(error) => error.exit_code(),
            // The reader of standard output closed it.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => exit::DONE,
            Self::Output(_) | Self::Start(_) => exit::FAILED,
        }
    }
}

/// Runs the command, and returns the exit code for the process.
pub fn run_devices_command(command: &DevicesCommand) -> u8 {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(DevicesError::Start);
    match runtime.and_then(|runtime| runtime.block_on(list_devices(command))) {
        Ok(()) => exit::DONE,
        Err(error) => report_failure(&error, error.exit_code()),
    }
}

async fn list_devices(command: &DevicesCommand) -> Result<(), DevicesError> {
    let client = command.gateway.open_client()?;
    let mut left = command.limit;
    let mut after = command.after.clone();
    let mut devices = Vec::new();
    loop {
        let page = client.list_devices(after.as_deref(), command.overdue, left).await?;
        left = left.saturating_sub(u64::try_from(page.devices.len()).unwrap_or(u64::MAX));
        devices.extend(page.devices);
        after = page.next;
        if left == 0 || after.is_none() {
            let list = DevicePage { devices, next: after, counts: page.counts };
            return Ok(output::print_list(&list, command.overdue, command.json)?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_cannot_add_to_the_query() {
        assert!(parse_mark("1772352930120.5f2c0000-0000-4000-8000-000000000000").is_ok());
        for mark in ["", "1&limit=2", "1#", "1 2", "1%20"] {
            assert!(parse_mark(mark).is_err(), "{mark}");
        }
    }
}
