//! The daemon on real disks that lose their power, fill up and fail.
//!
//! They are ext4 images on loop devices. So these tests need root, and are ignored unless requested:
//!
//! ```sh
//! cargo test --test programs disk:: -- --ignored
//! ```

mod failing;
mod full;
mod gone;
mod power_cuts;
mod stuck;

use std::collections::HashSet;
use std::path::Path;

use hyper::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::UnixStream;
use uuid::Uuid;

use crate::support::daemon::Daemon;
use crate::support::gateway::Gateway;
use crate::support::http::{HttpResponse, exchange, request};
use crate::support::loop_disk::LoopDisk;
use crate::support::settings::Settings;
use crate::support::wait::{directory, wait_for};

const DUPLICATES: &str = "fieldsync_gateway_records_total{result=\"duplicate\"}";
/// No other process listens at this address, so a port that is free for a moment stays free.
const OUT_OF_THE_WAY: &str = "127.77.0.2:0";

/// Settings that keep the records on this disk, with the default reserve.
fn settings(disk: &LoopDisk, url: &str) -> Settings {
    // These disks are smaller than the threshold.
    Settings::for_server(url)
        .with("telemetry.alert_disk_free", "0B")
        .with("queue.state_dir", disk.path("state").to_str().unwrap())
        .with("queue.disk_reserve", "8MiB")
}

/// A server that is not started yet. Its ledger is not on the daemon's disk.
struct AbsentServer {
    directory: TempDir,
    listen: String,
}

impl AbsentServer {
    fn new() -> Self {
        let directory = directory();
        let gateway = Gateway::start_at(directory.path(), OUT_OF_THE_WAY, &[]);
        let listen = gateway.address.to_string();
        gateway.kill();
        Self { directory, listen }
    }

    fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    fn appear(&self) -> Gateway {
        Gateway::start_at(self.directory.path(), &self.listen, &[])
    }
}

/// The records that were sent to the daemon, by its response.
#[derive(Default)]
struct OfferedRecords {
    acknowledged: HashSet<Uuid>,
    /// Refused because the disk is full, which promises that nothing was stored.
    refused: HashSet<Uuid>,
    /// Unknown: they may be stored or not.
    unknown: HashSet<Uuid>,
}

impl OfferedRecords {
    /// Enqueues this many records with payloads of this size, in one request.
    fn enqueue(&mut self, socket: &Path, records: usize, bytes: usize) -> Option<HttpResponse> {
        let ids: Vec<Uuid> = (0..records).map(|_| Uuid::now_v7()).collect();
        let payload = json!({"text": "x".repeat(bytes)});
        let body: Vec<Value> =
            ids.iter().map(|id| json!({"id": id, "type": "Visits", "payload": payload})).collect();
        let headers = [("content-type", "application/json")];
        let body = json!(body).to_string().into_bytes();
        let request = request(Method::POST, "/v1/records", "localhost", &headers, body);
        let response = exchange(UnixStream::connect(socket), request);
        match response.as_ref().map(|response| response.status) {
            Some(201) => self.acknowledged.extend(ids),
            Some(507) => self.refused.extend(ids),
            _ => self.unknown.extend(ids),
        }
        response
    }

    /// As [`Self::offer`], to a daemon that must respond.
    #[track_caller]
    fn hand_over(&mut self, daemon: &Daemon, records: usize, bytes: usize) -> HttpResponse {
        let response = self.enqueue(&daemon.home.socket(), records, bytes);
        response.unwrap_or_else(|| panic!("no response: {}", daemon.log()))
    }

    /// Enqueues until the daemon no longer accepts the records.
    #[track_caller]
    fn hand_over_until_refused(&mut self, daemon: &Daemon, records: usize, bytes: usize) -> HttpResponse {
        wait_for("a refusal", || {
            Some(self.hand_over(daemon, records, bytes)).filter(|response| response.status != 201)
        })
    }

    /// Enqueues until records are accepted, which must happen without a restart.
    #[track_caller]
    fn hand_over_until_taken(&mut self, daemon: &Daemon, records: usize, bytes: usize) {
        wait_for("records to be taken again", || {
            (self.hand_over(daemon, records, bytes).status == 201).then_some(())
        });
    }

    fn add(&mut self, other: Self) {
        self.acknowledged.extend(other.acknowledged);
        self.refused.extend(other.refused);
        self.unknown.extend(other.unknown);
    }

    /// All acknowledged records are in the server's ledger once, and no refused one is. Nothing was sent
    /// twice.
    #[track_caller]
    fn assert_kept_by(&self, gateway: &Gateway) {
        assert_eq!(gateway.metric(DUPLICATES), 0, "sent in a second batch");
        self.assert_in_the_ledger_of(gateway);
    }

    /// As above, but records may have been sent twice.
    #[track_caller]
    fn assert_in_the_ledger_of(&self, gateway: &Gateway) {
        let applied = gateway.applied_ids();
        let distinct: HashSet<Uuid> = applied.iter().copied().collect();
        assert_eq!(distinct.len(), applied.len(), "applied twice");
        let lost = self.acknowledged.difference(&distinct).count();
        assert_eq!(lost, 0, "lost, of {} that were acknowledged", self.acknowledged.len());
        let refused = self.refused.intersection(&distinct).count();
        assert_eq!(refused, 0, "stored, of {} that were refused", self.refused.len());
        assert!(distinct.iter().all(|id| self.acknowledged.contains(id) || self.unknown.contains(id)));
    }
}

/// The sentences of a status.
fn status_sentence(status: &Value) -> String {
    format!("{} {}", status["sync"]["text"], status["alerts"])
}
