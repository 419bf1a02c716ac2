//! `fieldsync status --check`: whether the device needs attention, as an exit code.

use serde_json::json;

use super::context::CommandContext;
use super::failure::CommandFailure;
use super::format::strip_controls;
use crate::api::Status;
use crate::exit;
use crate::policy::health::{Health, judge_health};

/// Not an exit code of other commands: it is promised for this one alone.
const WAITS_TOO_LONG: u8 = 2;

pub(crate) fn print_health(context: &mut CommandContext<'_>, status: &Status) -> Result<u8, CommandFailure> {
    let (health, reasons) = judge_health(&status.sync, &status.alerts);
    if context.json {
        let line = json!({ "check": health, "reasons": reasons, "device_name": status.device_name });
        context.print_line(line.to_string())?;
    } else {
        let why = if reasons.is_empty() { status.sync.text.clone() } else { reasons.join("; ") };
        let verdict = match health {
            Health::Well => "Well",
            Health::PersonMustAct => "A person must act",
            Health::WaitsTooLong => "Records wait too long",
        };
        context.print_line(format!("{verdict}: {}", strip_controls(&why)))?;
    }
    Ok(match health {
        Health::Well => exit::DONE,
        Health::PersonMustAct => exit::FAILED,
        Health::WaitsTooLong => WAITS_TOO_LONG,
    })
}
