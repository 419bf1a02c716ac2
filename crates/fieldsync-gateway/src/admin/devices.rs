//! The list of devices.

use std::fmt;
use std::str::FromStr;

use actix_web::web::{Data, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;

use super::AdminState;
use super::device_shapes::{DeviceCountsBody, DevicePage, DeviceSummary};
use crate::clock::wall_ms;
use crate::fleet::Fleet;
use crate::ledger::{DeviceEntry, DevicePosition};
use crate::request_error::RequestError;

const DEFAULT_PAGE_ROWS: usize = 100;
const PAGE_ROWS_MAX: usize = 1000;
const QUERY_EXPECTED: &str =
    "`after` is `next` of an earlier list, `limit` a number, and `overdue` true or false";

#[derive(Debug, Deserialize)]
struct DeviceQuery {
    after: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    overdue: bool,
}

pub(super) async fn list_devices(
    request: HttpRequest,
    state: Data<AdminState>,
) -> Result<HttpResponse, RequestError> {
    state.authorize(request.headers())?;
    let invalid = || RequestError::InvalidReview(QUERY_EXPECTED);
    let DeviceQuery { after, limit, overdue } =
        Query::<DeviceQuery>::from_query(request.query_string()).map_err(|_| invalid())?.into_inner();
    let after = after.map(|text| text.parse::<PageMark>()).transpose().map_err(|()| invalid())?;
    let rows = limit.unwrap_or(DEFAULT_PAGE_ROWS).clamp(1, PAGE_ROWS_MAX);
    let fleet = &state.fleet;
    fleet.store_entries().await?;
    let now = wall_ms();
    // The device without contact for the longest time is first, and so the overdue ones are.
    let before = overdue.then(|| fleet.overdue_before(now));
    let mut entries = fleet.devices_after(after.map(|mark| mark.0), before, rows + 1).await?;
    let is_last = entries.len() <= rows;
    entries.truncate(rows);
    let next = entries.last().filter(|_| !is_last).map(|last| PageMark(last.position()).to_string());
    let counts = fleet.count_devices(now).await?;
    let devices = entries.into_iter().map(|entry| summarize(fleet, entry, now)).collect();
    let counts = DeviceCountsBody { known: counts.known, overdue: counts.overdue };
    Ok(HttpResponse::Ok().json(DevicePage { devices, next, counts }))
}

fn summarize(fleet: &Fleet, entry: DeviceEntry, now: u64) -> DeviceSummary {
    let overdue_since = fleet.overdue_since(entry.last_contact_at, now);
    let last_status_at = entry.report.as_ref().map(|report| report.received_at);
    let status = entry.report.map(|report| report.status).unwrap_or_default();
    DeviceSummary {
        device_id: entry.device,
        name: (!entry.name.is_empty()).then_some(entry.name),
        version: status.version,
        last_contact_at: entry.last_contact_at,
        last_status_at,
        unsent: status.records.and_then(|records| records.unsent()),
        under_review: status.records.and_then(|records| records.quarantined),
        oldest_unsent_at: status.oldest_pending_at,
        queue_bytes: status.queue_bytes,
        last_success_at: status.last_success_at,
        alerts: status.alerts,
        clock_offset_ms: status.clock_offset_ms,
        battery_percent: status.battery_percent,
        interface: status.interface,
        overdue: overdue_since.is_some(),
        overdue_since,
    }
}

/// The end of a page, as text: `1772352930120.5f2c…`.
struct PageMark(DevicePosition);

impl fmt::Display for PageMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0.last_contact_at, self.0.device)
    }
}

impl FromStr for PageMark {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (at, device) = text.split_once('.').ok_or(())?;
        let last_contact_at = at.parse().map_err(|_| ())?;
        Ok(Self(DevicePosition { last_contact_at, device: device.parse().map_err(|_| ())? }))
    }
}
