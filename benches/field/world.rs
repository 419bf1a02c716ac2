//! The simulated field: a clock, the server, and devices with their queues and links. Requests and waits are events;
//! the clock jumps from one to the next. A serial client waits for each of its requests; the others are notified
//! of what happens.

use std::collections::HashMap;
use std::time::Duration;

use fastrand::Rng;
use fieldsync::model::BatchId;
use fieldsync::policy::outcome_reply::OutcomeReply;
use fieldsync::protocol::wire::{RecordResult, RecordStatus};
use uuid::Uuid;

use crate::device::Device;
use crate::events::{DeviceId, Event, EventQueue, RequestId};
use crate::link::{Link, Up};
use crate::record::Record;
use crate::requests::{Exchange, Request, member};
use crate::scene::Scene;
use crate::server::Server;
use crate::server_spec::ServerSpec;

/// The device of a client that is alone in its world.
pub(crate) const ONLY_DEVICE: DeviceId = 0;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fate {
    Open,
    Synced(Duration),
    Quarantined(Duration),
}

/// What a client notices.
#[derive(Debug)]
pub(crate) enum Notice {
    /// The time came for which it asked.
    Woken,
    /// A batch got a response, or failed.
    BatchEnded(RequestId, Exchange),
    /// An outcome query got a reply, or failed.
    QueryEnded(RequestId, OutcomeReply),
}

pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) rng: Rng,
    pub(crate) records: Vec<Record>,
    pub(crate) fates: Vec<Fate>,
    pub(crate) server: Server,
    pub(crate) devices: Vec<Device>,
    /// The client whose requests are traced.
    pub(crate) trace: Option<&'static str>,
    pub(super) events: EventQueue,
    pub(super) requests: HashMap<RequestId, Request>,
    pub(super) requests_sent: RequestId,
    /// The latest plan for the server's work.
    pub(super) work_plan: u64,
    horizon: Duration,
}

impl World {
    /// The same seed gives every client the same records and the same link.
    pub(crate) fn new(scene: &Scene, seed: u64, horizon: Duration) -> Self {
        Self::with_devices(scene, 1, seed, horizon)
    }

    /// Several devices at one server.
    pub(crate) fn with_devices(scene: &Scene, devices: usize, seed: u64, horizon: Duration) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut records: Vec<Record> = Vec::new();
        let devices = (0..devices).map(|_| {
            let from = records.len();
            records.extend((scene.records)(&mut rng.fork()));
            Device::new(from..records.len(), Link::new(scene.link, rng.fork()))
        });
        let devices = devices.collect();
        let server = Server::new(scene.server.clone(), records.len(), rng.fork());
        let mut world = Self {
            now: Duration::ZERO,
            fates: vec![Fate::Open; records.len()],
            trace: None,
            events: EventQueue::default(),
            requests: HashMap::new(),
            requests_sent: 0,
            work_plan: 0,
            devices,
            rng,
            records,
            server,
            horizon,
        };
        world.plan_servers_changes();
        world.advance(Duration::ZERO);
        world
    }

    fn plan_servers_changes(&mut self) {
        let capacity = &self.spec().capacity;
        let (later, others) = (capacity.later, capacity.others);
        if let Some((from, _)) = later {
            self.events.plan(from, Event::WorkersChange);
        }
        if others.is_some() {
            self.events.plan(Duration::ZERO, Event::OthersSend);
        }
    }

    pub(crate) fn spec(&self) -> &ServerSpec {
        &self.server.spec
    }

    /// The time limit as configured on the device.
    pub(crate) fn configured_limit(&self) -> Duration {
        self.spec().configured.unwrap_or(self.spec().limit)
    }

    /// Whether the simulation is over.
    pub(crate) fn is_past_horizon(&self) -> bool {
        self.now >= self.horizon
    }

    /// Every device is done.
    pub(crate) fn is_done(&self) -> bool {
        self.devices.iter().all(Device::is_done)
    }

    /// The duration of the run, at most until the horizon.
    pub(crate) fn measured_time(&self) -> Duration {
        self.now.min(self.horizon)
    }

    // Time.

    fn advance(&mut self, time: Duration) {
        self.now = self.now.max(time);
        for device in &mut self.devices {
            while device.next_arrival < device.members.end
                && self.records[device.next_arrival].arrives <= self.now
            {
                device.open_bytes += self.records[device.next_arrival].bytes;
                device.open_records += 1;
                device.waiting.insert(device.next_arrival);
                device.next_arrival += 1;
            }
        }
    }

    /// Lets the time pass until a client notices something; none if nothing is planned.
    pub(crate) fn next_notice(&mut self) -> Option<(DeviceId, Notice)> {
        loop {
            let (at, event) = self.events.take_next()?;
            self.advance(at);
            if let Some(notice) = self.happen(event) {
                return Some(notice);
            }
        }
    }

    /// Lets the time pass for a client that waits for no request.
    pub(crate) fn wait_until(&mut self, time: Duration) {
        while self.events.next_time().is_some_and(|next| next <= time)
            && let Some((at, event)) = self.events.take_next()
        {
            self.advance(at);
            self.happen(event);
        }
        self.advance(time);
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        self.wait_until(self.now + time);
    }

    /// Wakes the client then, and not when it asked before.
    pub(crate) fn wake_at(&mut self, device: DeviceId, time: Duration) {
        let ticket = &mut self.devices[device].wake_ticket;
        *ticket += 1;
        let ticket = *ticket;
        self.events.plan(time.max(self.now), Event::Wake { device, ticket });
    }

    pub(crate) fn next_arrival(&self, device: DeviceId) -> Option<Duration> {
        let device = &self.devices[device];
        (device.next_arrival < device.members.end).then(|| self.records[device.next_arrival].arrives)
    }

    fn happen(&mut self, event: Event) -> Option<(DeviceId, Notice)> {
        match event {
            Event::WorkDone { plan } => {
                if plan == self.work_plan {
                    self.finish_work();
                }
            }
            Event::WorkersChange => {
                self.server.change_workers(self.now);
                self.start_work();
            }
            Event::OthersSend => {
                if let Some(next) = self.server.others_send(self.now) {
                    self.events.plan(next, Event::OthersSend);
                }
                self.start_work();
            }
            Event::BatchArrives(request) => self.batch_arrives(request),
            Event::QueryArrives(request) => self.query_arrives(request),
            Event::GatewayTimesOut(request) => self.gateway_times_out(request),
            Event::ResponseArrives(request) => return self.end_request(request, true),
            Event::RequestFails(request) => return self.end_request(request, false),
            Event::Wake { device, ticket } => {
                let is_latest = ticket == self.devices[device].wake_ticket;
                return is_latest.then_some((device, Notice::Woken));
            }
        }
        None
    }

    // The queue.

    pub(crate) fn mark_synced(&mut self, member: usize) {
        self.settle(member, Fate::Synced(self.now));
    }

    pub(crate) fn quarantine(&mut self, member: usize) {
        self.settle(member, Fate::Quarantined(self.now));
    }

    /// Settles the records that have a final result.
    pub(crate) fn settle_by(&mut self, results: &[RecordResult]) {
        for result in results {
            match result.status {
                RecordStatus::Applied | RecordStatus::Duplicate => self.mark_synced(member(result.id)),
                RecordStatus::Rejected => self.quarantine(member(result.id)),
                RecordStatus::Retry => {}
            }
        }
    }

    fn settle(&mut self, member: usize, fate: Fate) {
        let (bytes, fate_before) = (self.records[member].bytes, self.fates[member]);
        self.fates[member] = fate;
        let Some(device) = self.devices.iter_mut().find(|device| device.members.contains(&member)) else {
            return;
        };
        if fate_before == Fate::Open {
            device.open_records -= 1;
            device.open_bytes -= bytes;
        }
        device.waiting.remove(&member);
    }

    pub(crate) fn bytes(&self, members: &[usize]) -> u64 {
        members.iter().map(|member| self.records[*member].bytes).sum()
    }

    // The link.

    pub(crate) fn link_is_up(&mut self, device: DeviceId) -> bool {
        self.devices[device].link.is_up(self.now)
    }

    /// The current period up, or else the next one.
    pub(crate) fn link_up(&mut self, device: DeviceId) -> Up {
        self.devices[device].link.next_up(self.now)
    }

    pub(crate) fn rtt(&self, device: DeviceId) -> Duration {
        self.devices[device].link.spec.rtt
    }

    pub(crate) fn new_batch_id(&mut self) -> BatchId {
        BatchId(Uuid::from_u128(self.rng.u128(..)))
    }
}
