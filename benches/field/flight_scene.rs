//! The scenes for several batches in flight: servers that work on several batches at once, and that gain or lose by it.

use std::time::Duration;

use fastrand::Rng;

use crate::capacity::{AtOnce, Capacity, Others, Sharing};
use crate::link::{Bandwidth, LinkSpec, Pattern};
use crate::record::Record;
use crate::scene::{self, HOUR, MINUTE, MOBILE, Scene, WIRED, equal, plain, typed};
use crate::server_spec::{Load, Outage, OutageKind, ServerSpec};

/// The default of `batch.max_in_flight`.
const AT_DEFAULT: &[usize] = &[4];
const AT_BOTH: &[usize] = &[4, 8];
const AT_EIGHT: &[usize] = &[8];
/// How long a fleet is watched.
const FLEET_DURATION: Duration = Duration::from_hours(4);

pub(crate) struct FlightScene {
    pub(crate) scene: Scene,
    /// The settings of `batch.max_in_flight` to compare.
    pub(crate) at: &'static [usize],
    pub(crate) fleet: Option<Fleet>,
}

/// Several devices with more records than they can send in this time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fleet {
    pub(crate) devices: usize,
    pub(crate) duration: Duration,
}

/// A server with this capacity.
fn server(capacity: Capacity) -> ServerSpec {
    ServerSpec { capacity, ..ServerSpec::default() }
}

fn workers(count: usize) -> ServerSpec {
    server(Capacity::workers(count))
}

fn shared(sharing: Sharing) -> ServerSpec {
    server(Capacity::shared(sharing))
}

fn at_once(workers: usize, batches: usize) -> ServerSpec {
    let most = AtOnce { batches, records_above: 10, retry_after: Duration::from_secs(5) };
    server(Capacity { at_once: Some(most), ..Capacity::workers(workers) })
}

pub(crate) fn scenes() -> Vec<FlightScene> {
    let scene = |at, name: &str, records: fn(&mut Rng) -> Vec<Record>, server| FlightScene {
        scene: Scene { name: name.into(), records, server, link: WIRED },
        at,
        fleet: None,
    };
    let on = |link, flight: FlightScene| FlightScene { scene: Scene { link, ..flight.scene }, ..flight };
    let drift = |count| ServerSpec { load: Load::Wave { period: 4 * HOUR, peak: 2.5 }, ..workers(count) };
    let step = |count| ServerSpec {
        load: Load::Step { from: 20 * MINUTE, until: 80 * MINUTE, factor: 3.0 },
        ..workers(count)
    };
    let others = Others { busy_most: 6.0, seconds: 30.0, period: 2 * HOUR };
    let outage = Outage { from: 10 * MINUTE, until: 10 * MINUTE + 2 * HOUR, kind: OutageKind::TimesOut };
    let quick = ServerSpec { start: 0.02, each: [0.001; 3], ..workers(4) };
    let mut scenes = vec![
        scene(AT_BOTH, "one worker", |_| plain(4000), workers(1)),
        scene(AT_BOTH, "shared processor", |_| plain(4000), shared(Sharing::Processors(1.0))),
        scene(AT_BOTH, "two workers", |_| plain(8000), workers(2)),
        scene(AT_BOTH, "four workers", |_| plain(12_000), workers(4)),
        scene(AT_BOTH, "eight workers", |_| plain(12_000), workers(8)),
        scene(AT_BOTH, "four workers, 1,000 records only", |_| plain(1000), workers(4)),
        scene(AT_BOTH, "saturating mix", |rng| typed(12_000, rng), saturating()),
        scene(AT_BOTH, "slows down with each batch", |_| plain(12_000), shared(Sharing::Slowing(0.1))),
        scene(AT_BOTH, "429 above two", |_| plain(12_000), at_once(8, 2)),
        scene(AT_EIGHT, "429 above four", |_| plain(12_000), at_once(8, 4)),
        scene(AT_EIGHT, "429 above five", |_| plain(12_000), at_once(8, 5)),
        scene(
            AT_BOTH,
            "others' load on eight workers",
            |_| plain(12_000),
            server(Capacity { others: Some(others), ..Capacity::workers(8) }),
        ),
        scene(
            AT_BOTH,
            "four workers, 5 % random 504",
            |_| plain(12_000),
            ServerSpec { random_504: 0.05, ..workers(4) },
        ),
        scene(
            AT_BOTH,
            "four workers, outage of 2 h",
            |_| plain(12_000),
            ServerSpec { outages: vec![outage], ..workers(4) },
        ),
        on(
            LinkSpec {
                bandwidth: Bandwidth::Between(64e3, 10e6),
                pattern: Pattern::Flapping { up: 120.0, down: 30.0 },
                ..MOBILE
            },
            scene(AT_BOTH, "four workers, flapping link", |_| equal(6000, 8 * 1024), workers(4)),
        ),
        on(
            LinkSpec { bandwidth: Bandwidth::Fixed(100e6), ..MOBILE },
            scene(AT_BOTH, "round trip of 0.6 s to a quick server", |_| plain(60_000), quick),
        ),
        scene(AT_DEFAULT, "four workers, step", |_| plain(16_000), step(4)),
        scene(AT_EIGHT, "eight workers, step", |_| plain(32_000), step(8)),
        scene(AT_DEFAULT, "four workers, drift", |_| plain(48_000), drift(4)),
        scene(AT_EIGHT, "eight workers, drift", |_| plain(96_000), drift(8)),
        scene(
            AT_BOTH,
            "six workers that become two",
            |_| plain(12_000),
            server(Capacity { later: Some((20 * MINUTE, 2)), ..Capacity::workers(6) }),
        ),
        scene(AT_BOTH, "three shared processors", |_| plain(12_000), shared(Sharing::Processors(3.0))),
        scene(AT_BOTH, "thrashing", |_| plain(12_000), shared(Sharing::Thrashing(3.0, 0.25))),
        scene(
            AT_BOTH,
            "four workers, start-up of 10 s",
            |_| plain(12_000),
            ServerSpec { start: 10.0, ..workers(4) },
        ),
    ];
    scenes.extend(present_scenes());
    scenes.extend(fleets());
    scenes
}

/// Records of several kinds, and a server where each further batch gains less.
fn saturating() -> ServerSpec {
    ServerSpec { each: [0.5, 0.5, 2.5], sigma: 0.25, ..shared(Sharing::Slowing(0.15)) }
}

/// The scenes of the other table, with one and with four workers.
fn present_scenes() -> impl Iterator<Item = FlightScene> {
    [1, 4].into_iter().flat_map(|count| {
        scene::scenes().into_iter().filter(|scene| !scene.is_variant()).map(move |mut scene| {
            scene.name = format!("w = {count}: {}", scene.name);
            scene.server.capacity = Capacity::workers(count);
            FlightScene { scene, at: AT_DEFAULT, fleet: None }
        })
    })
}

fn fleets() -> impl Iterator<Item = FlightScene> {
    let fleet = |name: &str, devices, server| FlightScene {
        scene: Scene { name: name.into(), records: staggered, server, link: WIRED },
        at: AT_BOTH,
        fleet: Some(Fleet { devices, duration: FLEET_DURATION }),
    };
    [
        fleet("fleet of 20 at eight workers", 20, workers(8)),
        fleet("fleet of 5 at eight workers", 5, workers(8)),
        fleet("fleet of 20 at a shared eight", 20, shared(Sharing::Processors(8.0))),
        fleet("fleet of 5 at a shared eight", 5, shared(Sharing::Processors(8.0))),
    ]
    .into_iter()
}

/// More records than a device can send, all there after at most a minute.
fn staggered(rng: &mut Rng) -> Vec<Record> {
    let arrives = Duration::from_millis(rng.u64(..60_000));
    plain(20_000).into_iter().map(|record| Record { arrives, ..record }).collect()
}
