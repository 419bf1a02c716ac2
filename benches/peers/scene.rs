//! The scenes: how the server, its gateway and the link behave, and what happens to the client meanwhile.

use std::time::Duration;

use clap::ValueEnum;

use crate::Options;

/// How many records reach the gateway's time limit in the scene `limit`.
const LIMIT_RECORDS: u32 = 30;
/// How long a batch takes in the scene `kill`.
const KILL_BATCH_COST: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SceneName {
    /// The server answers at once
    Healthy,
    /// As healthy, but nothing is answered before all records are accepted: the drain alone
    Backlog,
    /// As healthy, over a long round trip
    Distant,
    /// 30 records reach the time limit: 504, although the batch is applied
    Limit,
    /// kill -9 in the middle of the drain, then a restart
    Kill,
    /// Every batch with a certain record gets a 500
    Poison,
    /// Every batch with a certain record gets a 403 with HTML from a firewall
    Firewall,
}

/// A scene for a number of records.
pub(crate) struct Scene {
    pub(crate) name: SceneName,
    pub(crate) title: String,
    pub(crate) records: usize,
    pub(crate) behavior: ServerBehavior,
    /// Of the link to the server.
    pub(crate) round_trip: Option<Duration>,
    pub(crate) interruption: Option<Interruption>,
}

/// What happens once the server holds its responses, and all records are accepted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interruption {
    /// The server continues; the time of the drain counts from here.
    Release,
    /// The client is killed and started again; the server continues with what it has received.
    KillClient,
}

/// How the server, and the gateway in front of it, respond to batches.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerBehavior {
    pub(crate) batch_cost: Duration,
    pub(crate) record_cost: Duration,
    /// The gateway responds 504 after this time; the server continues nevertheless.
    pub(crate) time_limit: Option<Duration>,
    /// The server applies and answers no batch beyond this many records until it is released.
    pub(crate) hold_at: Option<usize>,
    pub(crate) faulty_record: Option<(usize, Fault)>,
}

/// What one record does to every batch that contains it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The server responds 500 and applies nothing.
    ServerError,
    /// A firewall responds 403, and the server receives nothing.
    Forbidden,
}

impl Scene {
    pub(crate) fn new(name: SceneName, records: usize, options: &Options) -> Self {
        let mut scene = Self {
            name,
            title: title_of(name, options),
            records,
            behavior: ServerBehavior::default(),
            round_trip: None,
            interruption: None,
        };
        let middle = records / 2;
        match name {
            SceneName::Healthy => {}
            SceneName::Backlog => {
                scene.behavior.hold_at = Some(0);
                scene.interruption = Some(Interruption::Release);
            }
            SceneName::Distant => scene.round_trip = Some(options.round_trip),
            SceneName::Limit => {
                scene.records = records.min(options.limit_records);
                scene.behavior.record_cost = options.record_cost;
                scene.behavior.time_limit = Some(options.record_cost * LIMIT_RECORDS);
            }
            SceneName::Kill => {
                scene.behavior.batch_cost = KILL_BATCH_COST;
                scene.behavior.hold_at = Some(middle);
                scene.interruption = Some(Interruption::KillClient);
            }
            SceneName::Poison => scene.behavior.faulty_record = Some((middle, Fault::ServerError)),
            SceneName::Firewall => scene.behavior.faulty_record = Some((middle, Fault::Forbidden)),
        }
        scene
    }

    /// Records that a good client delivers.
    pub(crate) fn deliverable_records(&self) -> usize {
        self.records - usize::from(self.behavior.faulty_record.is_some())
    }
}

fn title_of(name: SceneName, options: &Options) -> String {
    let title = match name {
        SceneName::Healthy => "Healthy",
        SceneName::Backlog => "Healthy, the drain alone",
        SceneName::Distant => {
            return format!("Healthy, over {} ms of round trip", options.round_trip.as_millis());
        }
        SceneName::Limit => "A time limit that 30 records reach",
        SceneName::Kill => "kill -9 in the middle of the drain",
        SceneName::Poison => "One poison record: 500",
        SceneName::Firewall => "A firewall's 403 for one record",
    };
    title.to_owned()
}
