//! One run: a contestant in a scene, from the first record that is handed over until all are drained, the client is
//! stuck, or the time is over.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use fieldsync::clock::Clock;
use nix::unistd::syncfs;

use crate::Options;
use crate::contestant::{Contestant, Program, Setup};
use crate::hand_over::{self, Load};
use crate::link::Link;
use crate::scene::{Interruption, Scene};
use crate::server::Server;
use crate::usage::Usage;

/// Left to the client to settle its last batch.
const SETTLE_TIME: Duration = Duration::from_millis(500);
/// How long the client may take to deliver the rest once the server is healthy.
const RECOVERY_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest pause of a client that recovers: more than the back-offs of all contestants.
const RECOVERY_STALL: Duration = Duration::from_secs(25);

/// What a run has shown.
#[derive(Clone)]
pub(crate) struct Figures {
    /// When all records were accepted.
    pub(crate) accepted: Option<Duration>,
    pub(crate) ending: Ending,
    /// Records applied at the end of the scene, without the faulty one.
    pub(crate) delivered: usize,
    /// Records that were not, although a good client delivers them.
    pub(crate) held_up: usize,
    /// Accepted records that were not delivered even after the server was healthy again; unknown if some were not
    /// accepted in time.
    pub(crate) lost: Option<usize>,
    pub(crate) arrived_again: usize,
    pub(crate) applied_twice: usize,
    pub(crate) requests: usize,
    pub(crate) timeouts: usize,
    pub(crate) usage: Usage,
}

/// How the drain ended, with its duration.
#[derive(Clone, Copy)]
pub(crate) enum Ending {
    Drained(Duration),
    /// Nothing new was applied any more.
    Stuck(Duration),
    OutOfTime(Duration),
}

impl Figures {
    /// Records per second of the drain; none of a client that is stuck.
    pub(crate) fn rate(&self) -> Option<f64> {
        match self.ending {
            Ending::Drained(time) | Ending::OutOfTime(time) => {
                Some(self.delivered as f64 / time.as_secs_f64())
            }
            Ending::Stuck(_) => None,
        }
    }
}

/// A run under way.
struct Run<'a> {
    contestant: &'a dyn Contestant,
    scene: &'a Scene,
    options: &'a Options,
    clock: Clock,
    server: Server,
    link: Option<Link>,
    dir: &'a Path,
}

pub(crate) fn measure(contestant: &dyn Contestant, scene: &Scene, options: &Options) -> Figures {
    let dir = tempfile::tempdir_in(&options.dir).expect("a directory");
    // Unwritten data of one contestant must not slow down the next.
    syncfs(File::open(dir.path()).expect("the directory opens")).expect("the file system syncs");
    let clock = Clock::start();
    let server = Server::start(scene.records, scene.behavior.clone(), clock);
    let link = scene.round_trip.map(|round_trip| Link::start(server.address, round_trip));
    Run { contestant, scene, options, clock, server, link, dir: dir.path() }.run()
}

impl Run<'_> {
    fn run(self) -> Figures {
        let load =
            Load { records: self.scene.records, producers: self.options.producers, bulk: self.options.bulk };
        let mut program = self.start_program(load);
        let start = self.clock.now();
        let intake = self.contestant.intake(self.dir);
        let accepting = hand_over::start(&intake, &mut program.child, load, self.clock);
        let mut accepted = None;
        let mut drain_start = start;
        let mut earlier_usage = Usage::default();
        if self.scene.interruption.is_some() {
            accepted = self.wait_for_hold(start, &accepting);
        }
        if self.scene.interruption == Some(Interruption::Release) {
            drain_start = self.clock.now();
        }
        if self.scene.interruption == Some(Interruption::KillClient) {
            earlier_usage = Usage::of_process(program.id());
            drop(program);
            self.server.release();
            let nothing = Load { records: 0, ..load };
            program = self.start_program(nothing);
            drop(hand_over::start(&intake, &mut program.child, nothing, self.clock));
        }
        self.server.release();
        let ending = self.wait_for_drain(drain_start);
        let accepted = accepted.or_else(|| accepting.recv_timeout(self.time_left(start)).ok());
        thread::park_timeout(SETTLE_TIME);
        let usage = earlier_usage + Usage::of_process(program.id());
        let mut figures = self.collect_figures(ending, usage);
        figures.accepted = accepted.map(|accepted| accepted.saturating_sub(start));
        figures.lost = accepted.map(|_| self.count_lost());
        figures
    }

    fn start_program(&self, load: Load) -> Program {
        let server = self.link.as_ref().map_or(self.server.address, |link| link.address);
        let time_limit = self.scene.behavior.time_limit;
        Program::start(self.contestant, &Setup { dir: self.dir, server, time_limit, load })
    }

    /// Waits until the server holds a batch and all records are accepted; returns when they were.
    fn wait_for_hold(&self, start: Duration, accepting: &Receiver<Duration>) -> Option<Duration> {
        self.server.wait_until(self.time_left(start), |ledger| ledger.holds);
        accepting.recv_timeout(self.time_left(start)).ok()
    }

    fn time_left(&self, start: Duration) -> Duration {
        (start + self.options.time_limit).saturating_sub(self.clock.now())
    }

    fn wait_for_drain(&self, start: Duration) -> Ending {
        let last_progress = self.wait_for_records(start, self.options.time_limit, self.options.stall_limit);
        let drain = last_progress.saturating_sub(start);
        if self.server.ledger().delivered >= self.scene.deliverable_records() {
            Ending::Drained(drain)
        } else if self.time_left(start).is_zero() {
            Ending::OutOfTime(self.options.time_limit)
        } else {
            Ending::Stuck(drain)
        }
    }

    /// Waits until all records are applied, the time is over, or nothing new was applied for a while. Returns when the
    /// last new record was applied.
    fn wait_for_records(&self, start: Duration, time_limit: Duration, stall_limit: Duration) -> Duration {
        let wanted = self.scene.deliverable_records();
        loop {
            let last_progress = self.server.ledger().last_progress.max(start);
            let stall_end = (last_progress + stall_limit).min(start + time_limit);
            let wait = stall_end.saturating_sub(self.clock.now());
            if wait.is_zero() || self.server.wait_until(wait, |ledger| ledger.delivered >= wanted) {
                return self.server.ledger().last_progress.max(start);
            }
        }
    }

    fn collect_figures(&self, ending: Ending, usage: Usage) -> Figures {
        let ledger = self.server.ledger();
        Figures {
            accepted: None,
            ending,
            delivered: ledger.delivered,
            held_up: self.scene.deliverable_records().saturating_sub(ledger.delivered),
            lost: None,
            arrived_again: ledger.arrived_again,
            applied_twice: ledger.applied_twice,
            requests: ledger.requests,
            timeouts: ledger.timeouts,
            usage,
        }
    }

    /// Makes the server and the link healthy, and counts what the client does not deliver even then.
    fn count_lost(&self) -> usize {
        let missing =
            |run: &Self| run.scene.deliverable_records().saturating_sub(run.server.ledger().delivered);
        if missing(self) > 0 {
            self.server.heal();
            if let Some(link) = &self.link {
                link.heal();
            }
            self.contestant.ask_to_send(self.dir);
            self.wait_for_records(self.clock.now(), RECOVERY_TIMEOUT, RECOVERY_STALL);
        }
        missing(self)
    }
}
