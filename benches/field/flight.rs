//! Runs the scenes for several batches in flight: the policy with one and with several, beside the best plan.

use std::time::Duration;

use crate::figures::{Figures, Run, figures};
use crate::flight_scene::{Fleet, FlightScene};
use crate::oracle::Plan;
use crate::world::World;
use crate::{ORACLE_DURATION_MAX, fieldsync, oracle};

/// A client is stopped after this many times the duration of the oracle: one batch at a time may be far from the best.
const ORACLE_TIME_FACTOR_MAX: u32 = 60;
/// The windows and shares of the time limit among which the oracle finds the best.
const WINDOWS: [usize; 7] = [1, 2, 3, 4, 5, 6, 8];
const SHARES: [f64; 3] = [1.0, 0.75, 0.5];
/// Requests before the window is known.
pub(crate) const FIRST_REQUESTS: u32 = 20;

/// The policy with one batch at a time, beside the best plan with at most so many.
pub(crate) fn serial_name(most: usize) -> String {
    format!("serial beside {most}")
}

/// The policy with at most so many batches in flight.
pub(crate) fn rule_name(most: usize) -> String {
    format!("at {most}")
}

/// The best plan with at most so many batches in flight.
pub(crate) fn oracle_name(most: usize) -> String {
    format!("oracle at {most}")
}

/// One world of a scene.
struct Site<'s> {
    flight: &'s FlightScene,
    seed: u64,
    trace: bool,
}

/// All clients in one scene with one seed; goodput in percent of the best plan's with as many batches.
pub(crate) fn run_scene(flight: &FlightScene, seed: u64, at: Option<usize>, trace: bool) -> Vec<Run> {
    let site = Site { flight, seed, trace };
    let settings: Vec<usize> = at.map_or_else(|| flight.at.to_vec(), |at| vec![at]);
    let plans = site.run_plans(settings.iter().copied().max().unwrap_or(1));
    let mut runs = Vec::new();
    let mut serial = None;
    for most in settings {
        let within = plans.iter().filter(|(plan, ..)| plan.window <= most);
        // The first of equals, which is the smallest.
        let Some((plan, best, longest)) =
            within.rev().max_by(|a, b| a.1["goodput"].total_cmp(&b.1["goodput"]))
        else {
            continue;
        };
        let relative = |client: String, mut figures: Figures| {
            for name in ["goodput", "others"] {
                figures.entry(name).and_modify(|goodput| *goodput *= 100.0 / best[name]);
            }
            Run { scene: flight.scene.name.clone(), client, seed, figures }
        };
        let horizon = *longest * ORACLE_TIME_FACTOR_MAX;
        let mut known = best.clone();
        known.insert("window", plan.window as f64);
        runs.push(relative(oracle_name(most), known));
        let serial =
            serial.get_or_insert_with(|| site.run("serial", horizon, |world| fieldsync::run(world, 1)).0);
        let against_serial = relative(serial_name(most), serial.clone());
        runs.push(against_serial);
        let ours = site.run("rule", horizon, |world| fieldsync::run(world, most)).0;
        runs.push(relative(rule_name(most), ours));
    }
    runs
}

impl Site<'_> {
    /// Every plan that may be the best, with its figures and duration.
    fn run_plans(&self, most: usize) -> Vec<(Plan, Figures, Duration)> {
        let capacity = &self.flight.scene.server.capacity;
        let follows: &[bool] = if capacity.later.is_some() { &[false, true] } else { &[false] };
        let mut runs = Vec::new();
        for window in WINDOWS.into_iter().filter(|window| *window <= most) {
            let shares = if self.is_crowded(window) { &SHARES[..] } else { &SHARES[..1] };
            for (share, follows_workers) in
                shares.iter().flat_map(|share| follows.iter().map(move |follows| (*share, *follows)))
            {
                let plan = Plan { window, follows_workers, share };
                let horizon = ORACLE_DURATION_MAX;
                let (figures, time) = self.run("oracle", horizon, |world| oracle::run_with(world, plan));
                runs.push((plan, figures, time));
            }
        }
        runs
    }

    /// Whether it cannot be said beforehand how long so many batches take.
    fn is_crowded(&self, window: usize) -> bool {
        let capacity = &self.flight.scene.server.capacity;
        let devices = self.flight.fleet.map_or(1, |fleet| fleet.devices);
        capacity.others.is_some() || capacity.slowdown(Duration::ZERO, window * devices) > 1.0
    }

    fn run(
        &self,
        name: &'static str,
        horizon: Duration,
        client: impl FnOnce(&mut World),
    ) -> (Figures, Duration) {
        let Self { flight, seed, trace } = self;
        let devices = flight.fleet.map_or(1, |fleet| fleet.devices);
        let horizon = flight.fleet.map_or(horizon, |fleet| fleet.duration);
        let mut world = World::with_devices(&flight.scene, devices, *seed, horizon);
        world.trace = trace.then_some(name);
        client(&mut world);
        let figures = match flight.fleet {
            Some(fleet) => fleet_figures(&world, fleet),
            None => flight_figures(&world, 0),
        };
        (figures, world.measured_time())
    }
}

/// The figures of a device, with those that only several batches in flight have.
fn flight_figures(world: &World, device: usize) -> Figures {
    let mut figures = figures(world, device);
    let tally = &world.devices[device].tally;
    let later = tally.posts.saturating_sub(FIRST_REQUESTS).max(1);
    figures.extend([
        ("429s", f64::from(tally.throttled)),
        ("429s_later", f64::from(tally.throttled_later) / f64::from(later)),
        ("window", tally.window as f64),
        ("window_changes", f64::from(tally.window_changes)),
        ("doubled", f64::from(tally.doubled)),
        ("under_way", tally.under_way.as_secs_f64() / world.measured_time().as_secs_f64()),
    ]);
    figures
}

/// The sums over all devices, and how evenly the server was shared.
fn fleet_figures(world: &World, fleet: Fleet) -> Figures {
    let devices: Vec<Figures> = (0..fleet.devices).map(|device| flight_figures(world, device)).collect();
    let mut sums = Figures::new();
    for (name, value) in devices.iter().flatten() {
        *sums.entry(name).or_default() += value;
    }
    let squares: f64 = devices.iter().map(|figures| figures["goodput"].powi(2)).sum();
    let jain = sums["goodput"].powi(2) / (fleet.devices as f64 * squares);
    sums.insert("jain", jain);
    // Nobody finishes.
    sums.insert("finished", 1.0);
    sums
}
