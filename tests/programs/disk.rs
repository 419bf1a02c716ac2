//! The daemon on real disks that lose their power, fill up and fail.
//!
//! They are ext4 images on loop devices, so these tests need root, and are left out unless asked for:
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
use crate::support::http::{Answer, exchange, request};
use crate::support::loop_disk::LoopDisk;
use crate::support::settings::Settings;
use crate::support::wait::{directory, wait_for};

const DUPLICATES: &str = "fieldsync_gateway_records_total{result=\"duplicate\"}";
/// Nobody else listens here: a port that is free for a moment stays free.
const OUT_OF_THE_WAY: &str = "127.77.0.2:0";

/// That keep the records on this disk, with the room held back that is the default.
fn settings(disk: &LoopDisk, url: &str) -> Settings {
    Settings::for_server(url)
        .with("queue.state_dir", disk.path("state").to_str().unwrap())
        .with("queue.disk_reserve", "8MiB")
}

/// A server that is not there yet. What it keeps is on another disk than the daemon's.
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

/// What was handed over, and what was said to it.
#[derive(Default)]
struct Books {
    acknowledged: HashSet<Uuid>,
    /// For lack of room, which says that nothing was stored.
    refused: HashSet<Uuid>,
    /// Neither: they may be there, or may not.
    unknown: HashSet<Uuid>,
}

impl Books {
    /// Hands over so many records with payloads of so many bytes, in one request.
    fn offer(&mut self, socket: &Path, records: usize, bytes: usize) -> Option<Answer> {
        let ids: Vec<Uuid> = (0..records).map(|_| Uuid::now_v7()).collect();
        let payload = json!({"text": "x".repeat(bytes)});
        let body: Vec<Value> =
            ids.iter().map(|id| json!({"id": id, "type": "Visits", "payload": payload})).collect();
        let headers = [("content-type", "application/json")];
        let body = json!(body).to_string().into_bytes();
        let request = request(Method::POST, "/v1/records", "localhost", &headers, body);
        let answer = exchange(UnixStream::connect(socket), request);
        match answer.as_ref().map(|answer| answer.status) {
            Some(201) => self.acknowledged.extend(ids),
            Some(507) => self.refused.extend(ids),
            _ => self.unknown.extend(ids),
        }
        answer
    }

    /// As [`Self::offer`], to a daemon that has to answer.
    #[track_caller]
    fn hand_over(&mut self, daemon: &Daemon, records: usize, bytes: usize) -> Answer {
        let answer = self.offer(&daemon.home.socket(), records, bytes);
        answer.unwrap_or_else(|| panic!("no answer: {}", daemon.log()))
    }

    /// Hands over until something else is said than that the records are kept.
    #[track_caller]
    fn hand_over_until_refused(&mut self, daemon: &Daemon, records: usize, bytes: usize) -> Answer {
        wait_for("a refusal", || {
            Some(self.hand_over(daemon, records, bytes)).filter(|answer| answer.status != 201)
        })
    }

    /// Hands over until records are taken, which is to be without a restart.
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

    /// Everything that was acknowledged is in the server's ledger once, and nothing that was refused
    /// is; nothing was even sent twice.
    #[track_caller]
    fn assert_kept_by(&self, gateway: &Gateway) {
        assert_eq!(gateway.metric(DUPLICATES), 0, "sent in a second batch");
        self.assert_in_the_ledger_of(gateway);
    }

    /// The same, whatever was sent.
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

/// The sentences that people read in a status.
fn said(status: &Value) -> String {
    format!("{} {}", status["sync"]["text"], status["alerts"])
}
