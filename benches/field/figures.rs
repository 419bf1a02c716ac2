//! The figures of a run, computed at its end.

use std::collections::BTreeMap;

use crate::device::Device;
use crate::events::DeviceId;
use crate::world::{Fate, World};

/// By name. Figures that do not apply to a run (for example the recovery, without an outage) are absent.
pub(crate) type Figures = BTreeMap<&'static str, f64>;

pub(crate) struct Run {
    pub(crate) scene: String,
    pub(crate) client: String,
    pub(crate) seed: u64,
    pub(crate) figures: Figures,
}

/// The figures of a run; its goodput in records a second.
pub(crate) fn figures(world: &World, device: DeviceId) -> Figures {
    let Device { tally, members, .. } = &world.devices[device];
    let all = || members.clone().map(|index| (index, (&world.fates[index], &world.records[index])));
    let count = |wanted: &dyn Fn(usize, Fate, bool) -> bool| {
        all().filter(|(index, (fate, record))| wanted(*index, **fate, record.fault.is_some())).count() as f64
    };
    let end = world.measured_time();
    let finished = world.devices[device].is_done();
    let stored = count(&|_, fate, fault| matches!(fate, Fate::Synced(at) if at <= end) && !fault);
    let faults = count(&|_, _, fault| fault);
    let waits = all().filter_map(|(_, (fate, record))| match fate {
        Fate::Synced(at) => Some(at.saturating_sub(record.arrives).as_secs_f64()),
        _ => None,
    });
    let isolated = all().filter_map(|(index, (fate, record))| match fate {
        Fate::Quarantined(at) if record.fault.is_some() => {
            Some(at.saturating_sub(*tally.first_sent.get(&index)?).as_secs_f64())
        }
        _ => None,
    });
    // Until the last good record is synced: the search for faulty records may take longer.
    let last_stored = all().filter_map(|(_, (fate, record))| match fate {
        Fate::Synced(at) if record.fault.is_none() => Some(*at),
        _ => None,
    });
    let all_good_stored = last_stored.max().filter(|_| {
        all().all(|(_, (fate, record))| matches!(fate, Fate::Synced(_)) || record.fault.is_some())
    });
    let others = stored / all_good_stored.unwrap_or(end).as_secs_f64().max(1.0);
    // A client that stops with open records has lost them; one that was stopped at the horizon has not.
    let asleep = !finished && !world.is_past_horizon();
    let lost = count(&|index, fate, fault| match fate {
        Fate::Synced(_) => !world.server.has(index),
        Fate::Open => asleep && !fault,
        Fate::Quarantined(_) => false,
    });
    let false_quarantines = count(&|_, fate, fault| matches!(fate, Fate::Quarantined(_)) && !fault);
    let missed = count(&|_, fate, fault| fault && !matches!(fate, Fate::Quarantined(_)));
    let mut figures = Figures::from([
        ("finished", f64::from(u8::from(finished))),
        ("seconds", end.as_secs_f64()),
        ("goodput", stored / end.as_secs_f64().max(1.0)),
        ("others", others),
        ("504s", f64::from(tally.timed_out)),
        ("posts", f64::from(tally.posts)),
        ("look_ups", f64::from(tally.look_ups)),
        ("in_vain", f64::from(tally.sent_in_vain)),
        ("had_already", f64::from(tally.had_already)),
        ("false_quarantines", false_quarantines),
        ("missed", missed),
        ("lost", lost),
    ]);
    let mut known = |name, value: Option<f64>| figures.extend(value.map(|value| (name, value)));
    known("size", median(tally.sizes.clone()));
    known("median_wait", median(waits.collect()));
    known("isolation", median(isolated.collect()));
    if faults > 0.0 {
        known("tests", Some(f64::from(tally.faulty_posts) / faults));
    }
    if !world.spec().outages.is_empty() {
        known("posts_in_outage", Some(f64::from(tally.posts_in_outage)));
        known("look_ups_in_outage", Some(f64::from(tally.look_ups_in_outage)));
        known("recovery", tally.recovered.map(|recovered| recovered.as_secs_f64()));
    }
    figures
}

pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
