//! The scenes: the records in the queue, the behaviour of the server, and the link between them.

use std::ops::Range;
use std::time::Duration;

use fastrand::Rng;

use crate::chance;
use crate::link::{Bandwidth, LinkSpec, Pattern};
use crate::record::{Denial, Fault, Record};
use crate::server_spec::{Load, LookUps, Outage, OutageKind, Quota, ServerSpec, Tail};

pub(crate) const HOUR: Duration = Duration::from_hours(1);
pub(crate) const MINUTE: Duration = Duration::from_mins(1);
const RECORD_BYTES: u64 = 1024;

/// A scene's records, in order of arrival.
type RecordsOf = fn(&mut Rng) -> Vec<Record>;

pub(crate) struct Scene {
    pub(crate) name: String,
    pub(crate) records: RecordsOf,
    pub(crate) server: ServerSpec,
    pub(crate) link: LinkSpec,
}

pub(crate) const WIRED: LinkSpec =
    LinkSpec { rtt: Duration::from_millis(50), bandwidth: Bandwidth::Fixed(10e6), pattern: Pattern::Steady };
pub(crate) const MOBILE: LinkSpec = LinkSpec { rtt: Duration::from_millis(600), ..WIRED };

impl Scene {
    /// Whether the other table shows it only with another status or without outcome queries.
    pub(crate) fn is_variant(&self) -> bool {
        const VARIANTS: [&str; 6] = ["404:", "415:", "HTML:", "302:", "413:", "429: 1"];
        VARIANTS.iter().any(|start| self.name.starts_with(start))
    }
}

/// A scene with a good link.
fn scene(name: &str, records: RecordsOf, server: ServerSpec) -> Scene {
    Scene { name: name.into(), records, server, link: WIRED }
}

pub(crate) fn scenes() -> Vec<Scene> {
    let base = ServerSpec::default;
    let scene =
        |name: &str, records: RecordsOf, server| Scene { name: name.into(), records, server, link: WIRED };
    let blind = || ServerSpec { look_ups: LookUps::Missing, ..base() };
    let drift = || ServerSpec { load: Load::Wave { period: 4 * HOUR, peak: 2.5 }, ..base() };
    let out = |kind, hours| {
        let outage = Outage { from: 10 * MINUTE, until: 10 * MINUTE + hours * HOUR, kind };
        ServerSpec { outages: vec![outage], ..base() }
    };
    let flaky = || ServerSpec { random_504: 0.05, ..base() };
    let on = |link, scene| Scene { link, ..scene };
    let mut scenes = vec![
        scene("customer: T = 40 s", |_| plain(1000), ServerSpec { limit: Duration::from_secs(40), ..base() }),
        scene("steady", |_| plain(2000), base()),
        scene(
            "noisy",
            |_| plain(2000),
            ServerSpec { sigma: 0.35, tail: Some(Tail { probability: 0.01, factor: 2.0 }), ..base() },
        ),
        scene("typed", |rng| typed(3000, rng), ServerSpec { each: [0.5, 0.5, 2.5], ..base() }),
        scene(
            "bytes",
            |rng| sized(1500, 16.0, 0.8, rng),
            ServerSpec { each: [0.3; 3], per_kib: 0.03, ..base() },
        ),
        scene("drift", |_| plain(12_000), drift()),
        scene(
            "step",
            |_| plain(4000),
            ServerSpec { load: Load::Step { from: 20 * MINUTE, until: 80 * MINUTE, factor: 3.0 }, ..base() },
        ),
        // 25 records in 44 s, 12 in 18 s.
        scene("superlinear", |_| plain(2000), ServerSpec { each: [0.64; 3], power: 1.3, ..base() }),
        scene("fast", |_| plain(5000), ServerSpec { start: 0.2, each: [0.02; 3], ..base() }),
        scene("poison: 1 in 300", |rng| poisoned(300, 1, 0..300, rng), base()),
        scene("poison: 5 in 1,000", |rng| poisoned(1000, 5, 0..1000, rng), base()),
        scene("poison: 5 late in 6,000", |rng| poisoned(6000, 5, 3000..6000, rng), base()),
        scene(
            "poison burst: 20 within 200",
            |rng| {
                let from = rng.usize(..1300);
                poisoned(1500, 20, from..from + 200, rng)
            },
            base(),
        ),
        scene("refused, unnamed: 5", |rng| faulty(1000, 5, 0..1000, Fault::Refused, rng), base()),
        scene("rejected by name: 5", |rng| faulty(1000, 5, 0..1000, Fault::Rejected, rng), base()),
        scene("outage: 504 for 4 h", |_| plain(2000), out(OutageKind::TimesOut, 4)),
        scene("outage: 503 for 8 h", |_| plain(2000), out(OutageKind::Unavailable, 8)),
        // After ten minutes, about 500 records are synced: the faulty ones are next.
        scene(
            "outage: 504 for 2 h, 3 poison",
            |rng| poisoned(1500, 3, 490..540, rng),
            out(OutageKind::TimesOut, 2),
        ),
        on(
            LinkSpec {
                bandwidth: Bandwidth::Between(64e3, 10e6),
                pattern: Pattern::Flapping { up: 120.0, down: 30.0 },
                ..MOBILE
            },
            scene("flapping link", |_| equal(1500, 8 * 1024), base()),
        ),
        on(
            LinkSpec { bandwidth: Bandwidth::Fixed(64e3), ..MOBILE },
            scene("slow link", |_| equal(600, 2 * 1024), base()),
        ),
        scene(
            "429: 4 in 240 s",
            |_| plain(2000),
            ServerSpec { quota: Some(Quota { requests: 4, window: 4 * MINUTE }), ..base() },
        ),
        scene("5 % random 504", |_| plain(3000), flaky()),
        scene("drift, no look-up", |_| plain(12_000), ServerSpec { load: drift().load, ..blind() }),
        scene(
            "5 % random 504, no look-up",
            |_| plain(3000),
            ServerSpec { look_ups: LookUps::Missing, ..flaky() },
        ),
        scene("poison: 1 in 300, no look-up", |rng| poisoned(300, 1, 0..300, rng), blind()),
        on(
            LinkSpec { pattern: Pattern::Nights, ..WIRED },
            scene(
                "week",
                week,
                ServerSpec {
                    outages: vec![Outage { from: 58 * HOUR, until: 62 * HOUR, kind: OutageKind::TimesOut }],
                    ..base()
                },
            ),
        ),
    ];
    scenes.extend(troubled_scenes());
    scenes.extend(denied_scenes());
    scenes
}

/// Servers that refuse at random, servers where only outcome queries fail, and a wrongly configured time limit.
fn troubled_scenes() -> Vec<Scene> {
    let base = ServerSpec::default;
    let refusing = |share| ServerSpec { random_400: share, ..base() };
    let look_ups = |look_ups| ServerSpec { look_ups, ..base() };
    let on = |link, scene| Scene { link, ..scene };
    vec![
        scene(
            "quick: 2 ms and 20 µs a record",
            |_| plain(20_000),
            ServerSpec { start: 0.002, each: [0.000_02; 3], ..base() },
        ),
        scene("refuses 5 % at random", |_| plain(1000), refusing(0.05)),
        scene("refuses 20 % at random", |_| plain(1000), refusing(0.2)),
        scene("refuses 5 % at random, trickling in", |_| trickling(200), refusing(0.05)),
        scene("refuses 20 % at random, trickling in", |_| trickling(200), refusing(0.2)),
        scene(
            "poison: 1 in 300, look-ups fail",
            |rng| poisoned(300, 1, 0..300, rng),
            look_ups(LookUps::Failing),
        ),
        scene(
            "poison: 1 in 300, look-ups get 403",
            |rng| poisoned(300, 1, 0..300, rng),
            look_ups(LookUps::Denied),
        ),
        scene(
            "poison: 1 in 300, look-ups get 503",
            |rng| poisoned(300, 1, 0..300, rng),
            look_ups(LookUps::Throttled),
        ),
        scene(
            "503: 1 in 300, look-ups get 503",
            |rng| faulty(300, 1, 0..300, Fault::Denied(Denial::Unavailable), rng),
            look_ups(LookUps::Throttled),
        ),
        scene(
            "time limit half as long as configured",
            |_| plain(2000),
            ServerSpec { configured: Some(MINUTE), limit: MINUTE / 2, ..base() },
        ),
        on(
            LinkSpec {
                bandwidth: Bandwidth::Fixed(64e3),
                pattern: Pattern::Flapping { up: 20.0, down: 4.0 },
                ..MOBILE
            },
            scene(
                "cuts on a slow link",
                |_| equal(300, 8 * 1024),
                ServerSpec { each: [0.02; 3], start: 0.2, ..base() },
            ),
        ),
    ]
}

/// Records that cause each class of denial: one in a small queue, and five in a larger one, with servers with and
/// without outcome queries.
fn denied_scenes() -> impl Iterator<Item = Scene> {
    const DENIALS: [(&str, RecordsOf, RecordsOf); 8] = [
        ("403", |rng| denied(300, 1, Denial::Forbidden, rng), |rng| denied(1000, 5, Denial::Forbidden, rng)),
        ("404", |rng| denied(300, 1, Denial::NotFound, rng), |rng| denied(1000, 5, Denial::NotFound, rng)),
        (
            "415",
            |rng| denied(300, 1, Denial::UnsupportedMediaType, rng),
            |rng| denied(1000, 5, Denial::UnsupportedMediaType, rng),
        ),
        (
            "429",
            |rng| denied(300, 1, Denial::TooManyRequests, rng),
            |rng| denied(1000, 5, Denial::TooManyRequests, rng),
        ),
        (
            "503",
            |rng| denied(300, 1, Denial::Unavailable, rng),
            |rng| denied(1000, 5, Denial::Unavailable, rng),
        ),
        ("HTML", |rng| denied(300, 1, Denial::LoginPage, rng), |rng| denied(1000, 5, Denial::LoginPage, rng)),
        ("302", |rng| denied(300, 1, Denial::Redirect, rng), |rng| denied(1000, 5, Denial::Redirect, rng)),
        ("413", |rng| denied(300, 1, Denial::TooLarge, rng), |rng| denied(1000, 5, Denial::TooLarge, rng)),
    ];
    DENIALS.into_iter().flat_map(|(name, one, five)| {
        [(LookUps::Answered, ""), (LookUps::Missing, ", no look-up")].into_iter().flat_map(
            move |(look_ups, and)| {
                [(one, "1 in 300"), (five, "5 in 1,000")].map(|(records, how_many)| Scene {
                    name: format!("{name}: {how_many}{and}"),
                    records,
                    server: ServerSpec { look_ups, ..ServerSpec::default() },
                    link: WIRED,
                })
            },
        )
    })
}

fn denied(count: usize, faults: usize, denial: Denial, rng: &mut Rng) -> Vec<Record> {
    faulty(count, faults, 0..count, Fault::Denied(denial), rng)
}

/// One record every half a minute.
fn trickling(count: usize) -> Vec<Record> {
    let mut records = plain(count);
    for (record, half_minutes) in records.iter_mut().zip(0..) {
        record.arrives = MINUTE / 2 * half_minutes;
    }
    records
}

pub(crate) fn equal(count: usize, bytes: u64) -> Vec<Record> {
    vec![Record { arrives: Duration::ZERO, kind: 0, bytes, fault: None }; count]
}

pub(crate) fn plain(count: usize) -> Vec<Record> {
    equal(count, RECORD_BYTES)
}

fn faulty(count: usize, faults: usize, within: Range<usize>, fault: Fault, rng: &mut Rng) -> Vec<Record> {
    let mut records = plain(count);
    for place in chance::places(faults, within, rng) {
        records[place].fault = Some(fault);
    }
    records
}

fn poisoned(count: usize, faults: usize, within: Range<usize>, rng: &mut Rng) -> Vec<Record> {
    faulty(count, faults, within, Fault::Hangs, rng)
}

/// Bursts of 30 records of a type on average; one burst in five has the expensive type.
pub(crate) fn typed(count: usize, rng: &mut Rng) -> Vec<Record> {
    let mut records = plain(count);
    let mut kind = 0;
    for record in &mut records {
        if rng.usize(..30) == 0 {
            kind = [0, 0, 1, 1, 2][rng.usize(..5)];
        }
        record.kind = kind;
    }
    records
}

/// Log-normal sizes.
fn sized(count: usize, median_kib: f64, sigma: f64, rng: &mut Rng) -> Vec<Record> {
    let mut records = plain(count);
    for record in &mut records {
        let kib = median_kib * (sigma * chance::gaussian(rng)).exp();
        record.bytes = (kib * 1024.0) as u64;
    }
    records
}

/// Five working days: about every twenty minutes, the user saves one visit or those of a whole morning.
fn week(rng: &mut Rng) -> Vec<Record> {
    let mut records = Vec::new();
    for day in 0..5 {
        let (mut at, evening) = (day * 24 * HOUR + 8 * HOUR, day * 24 * HOUR + 18 * HOUR);
        while at < evening {
            for _ in 0..rng.usize(1..80) {
                records.push(Record { arrives: at, kind: 0, bytes: RECORD_BYTES, fault: None });
                at += Duration::from_millis(rng.u64(..2000));
            }
            at += Duration::from_secs(rng.u64(60..2400));
        }
    }
    for place in chance::places(2, 0..records.len(), rng) {
        records[place].fault = Some(Fault::Hangs);
    }
    records
}
