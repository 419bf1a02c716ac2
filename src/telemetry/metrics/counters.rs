//! What is counted since the daemon started: updated once for each event, read when somebody asks.

use std::time::Duration;

use super::histogram::Histogram;
use super::named_counts::NamedCounts;
use super::record_ages::RecordAges;
use crate::api::{AlertName, BatchOutcome, BatchReport};
use crate::clock::{Now, SteadyClock, wall_ms};
use crate::model::{LinkState, Network};
use crate::policy::breaker::BreakerState;
use crate::store::SyncedRecord;

/// Seconds of batches and of the phases of requests.
const REQUEST_SECONDS: &[f64] =
    &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0];
/// Records of batches.
const BATCH_RECORDS: &[f64] = &[1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];
/// Bytes of bodies.
const BODY_BYTES: &[f64] = &[1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0, 4_194_304.0];
/// Seconds from the acceptance of a record to its confirmation: from at once to a week without a network.
const LATENCY_SECONDS: &[f64] =
    &[0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 28800.0, 86400.0, 259_200.0, 604_800.0];

/// What the reply to an outcome query says, as its label.
const QUERY_REPLIES: [&str; 7] =
    ["completed", "processing", "unknown", "unsupported", "failed", "throttled", "unreachable"];
/// The name of the last of them in the journal.
const UNREACHABLE_IN_JOURNAL: &str = "hindered";

/// What is counted since the daemon started.
#[derive(Clone, Debug)]
pub struct Counters {
    steady: SteadyClock,
    ages: RecordAges,
    pub(super) batches: NamedCounts,
    pub(super) answered_seconds: Histogram,
    pub(super) failed_seconds: Histogram,
    pub(super) batch_records: Histogram,
    pub(super) body_bytes: Histogram,
    pub(super) sent_bytes: u64,
    pub(super) payload_bytes: u64,
    pub(super) connect_seconds: Histogram,
    pub(super) send_seconds: Histogram,
    pub(super) exchange_seconds: Histogram,
    pub(super) latency_seconds: Histogram,
    pub(super) retries: u64,
    pub(super) splits: u64,
    pub(super) renamed: u64,
    pub(super) queries: NamedCounts,
    pub(super) credential_refusals: u64,
    pub(super) breaker_changes: NamedCounts,
    pub(super) link_changes: NamedCounts,
    pub(super) alerts: NamedCounts,
    pub(super) contacts: u64,
    pub(super) last_contact_at: Option<u64>,
    pub(super) last_network: Network,
}

impl Counters {
    /// Nothing was counted yet.
    pub fn new(steady: SteadyClock) -> Self {
        let mut ages = RecordAges::default();
        ages.observe(steady.now());
        Self {
            steady,
            ages,
            batches: NamedCounts::new(BatchOutcome::ALL),
            answered_seconds: Histogram::new(REQUEST_SECONDS),
            failed_seconds: Histogram::new(REQUEST_SECONDS),
            batch_records: Histogram::new(BATCH_RECORDS),
            body_bytes: Histogram::new(BODY_BYTES),
            sent_bytes: 0,
            payload_bytes: 0,
            connect_seconds: Histogram::new(REQUEST_SECONDS),
            send_seconds: Histogram::new(REQUEST_SECONDS),
            exchange_seconds: Histogram::new(REQUEST_SECONDS),
            latency_seconds: Histogram::new(LATENCY_SECONDS),
            retries: 0,
            splits: 0,
            renamed: 0,
            queries: NamedCounts::new(QUERY_REPLIES),
            credential_refusals: 0,
            breaker_changes: NamedCounts::new(["normal", "micro", "open", "probing"]),
            link_changes: NamedCounts::new(
                [LinkState::Unknown, LinkState::Online, LinkState::Offline, LinkState::CaptivePortal]
                    .map(LinkState::name),
            ),
            alerts: NamedCounts::new(AlertName::ALL),
            contacts: 0,
            last_contact_at: None,
            last_network: Network::default(),
        }
    }

    /// How often the server responded.
    pub fn contacts(&self) -> u64 {
        self.contacts
    }

    /// A batch was sent.
    pub fn batch_ended(&mut self, report: &BatchReport, network: &Network) {
        self.ages.observe(self.steady.now());
        self.batches.add(&report.outcome.to_string());
        let seconds = Duration::from_millis(report.duration_ms).as_secs_f64();
        if report.outcome == BatchOutcome::Answered {
            self.answered_seconds.observe(seconds);
        } else {
            self.failed_seconds.observe(seconds);
        }
        self.batch_records.observe(float(report.records as u64));
        self.payload_bytes += report.bytes;
        self.retries += u64::from(report.attempt > 1);
        self.credential_refusals += u64::from(report.outcome == BatchOutcome::Unauthorized);
        let Network { connect, body_bytes, sent, exchange, .. } = network;
        self.sent_bytes += body_bytes;
        if *body_bytes > 0 {
            self.body_bytes.observe(float(*body_bytes));
        }
        for (histogram, phase) in [
            (&mut self.connect_seconds, connect),
            (&mut self.send_seconds, sent),
            (&mut self.exchange_seconds, exchange),
        ] {
            if let Some(time) = phase {
                histogram.observe(time.as_secs_f64());
            }
        }
        self.last_network = *network;
        if report.http_status.is_some() && report.outcome != BatchOutcome::Interfered {
            self.count_contact(report.at);
        }
    }

    /// A batch was replaced by others.
    pub fn batch_divided(&mut self, parts: usize) {
        if parts > 1 {
            self.splits += 1;
        } else {
            self.renamed += 1;
        }
    }

    /// The server was asked for an outcome.
    pub fn outcome_queried(&mut self, reply: &str) {
        let label = if reply == UNREACHABLE_IN_JOURNAL { "unreachable" } else { reply };
        self.queries.add(label);
        if !matches!(label, "failed" | "unreachable") {
            self.count_contact(wall_ms());
        }
    }

    /// The server confirmed records.
    pub fn records_synced(&mut self, records: &[SyncedRecord]) {
        self.add_latencies(records, self.steady.now());
    }

    /// A record whose age is unknown, because the clock was wrong, is left out: one would distort all the others.
    pub(super) fn add_latencies(&mut self, records: &[SyncedRecord], now: Now) {
        self.ages.observe(now);
        for age_ms in records.iter().filter_map(|record| self.ages.age_ms(record.created_at, now)) {
            self.latency_seconds.observe(Duration::from_millis(age_ms).as_secs_f64());
        }
    }

    /// The breaker has another mode.
    pub fn breaker_changed(&mut self, state: &BreakerState) {
        self.breaker_changes.add(state.mode.name());
    }

    /// The link has another state.
    pub fn link_changed(&mut self, state: LinkState) {
        self.ages.observe(self.steady.now());
        self.link_changes.add(state.name());
    }

    /// An alert started.
    pub fn alert_started(&mut self, name: &str) {
        self.alerts.add(name);
    }

    fn count_contact(&mut self, at: u64) {
        self.contacts += 1;
        self.last_contact_at = Some(at);
    }
}

/// For counts far below the precision of a float.
#[expect(clippy::cast_precision_loss, reason = "a count of bytes or records")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}
