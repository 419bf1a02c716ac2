//! What several batches in flight are to reach, as means over the seeds.

use crate::flight::{oracle_name, rule_name, serial_name};
use crate::seeds::Seeds;

/// The setting that an aim is about.
const DEFAULT: usize = 4;
const EIGHT: usize = 8;

/// An aim for a scene with so many batches in flight at most.
struct Aim {
    scene: &'static str,
    most: usize,
    target: Target,
}

#[derive(Clone, Copy, Debug)]
enum Target {
    /// This share of the best plan's goodput.
    OfBest(f64),
    /// This share of the goodput with one batch at a time, with at most so many more 504s.
    OfSerial { share: f64, more_504s: f64 },
    /// At most so many percentage points below one batch at a time.
    NearSerial(f64),
    /// This share of the best plan's goodput, and this share of 429s after the first requests.
    Throttled { share: f64, throttled: f64 },
    /// This share of the best plan's goodput, shared this evenly.
    Fleet { share: f64, jain: f64 },
}

const SERVER_OF_ONE: Target = Target::OfSerial { share: 0.98, more_504s: 2.0 };
const THROTTLED: Target = Target::Throttled { share: 0.9, throttled: 1.0 / 50.0 };
const FLEET: Target = Target::Fleet { share: 0.9, jain: 0.9 };
/// Every scene of the other table with one worker.
const ONE_WORKER_PREFIX: &str = "w = 1: ";
const ONE_WORKER: Target = Target::NearSerial(0.5);

const fn aim(scene: &'static str, most: usize, target: Target) -> Aim {
    Aim { scene, most, target }
}

const AIMS: [Aim; 22] = [
    aim("one worker", DEFAULT, SERVER_OF_ONE),
    aim("one worker", EIGHT, SERVER_OF_ONE),
    aim("shared processor", DEFAULT, SERVER_OF_ONE),
    aim("shared processor", EIGHT, SERVER_OF_ONE),
    aim("two workers", DEFAULT, Target::OfBest(0.92)),
    aim("two workers", EIGHT, Target::OfBest(0.92)),
    aim("four workers", DEFAULT, Target::OfBest(0.92)),
    aim("four workers", EIGHT, Target::OfBest(0.92)),
    aim("eight workers", EIGHT, Target::OfBest(0.92)),
    aim("four workers, 1,000 records only", DEFAULT, Target::OfBest(0.75)),
    aim("429 above two", DEFAULT, THROTTLED),
    aim("429 above four", EIGHT, THROTTLED),
    aim("429 above five", EIGHT, THROTTLED),
    aim("four workers, drift", DEFAULT, Target::OfBest(0.88)),
    aim("eight workers, drift", EIGHT, Target::OfBest(0.88)),
    aim("four workers, step", DEFAULT, Target::OfBest(0.88)),
    aim("eight workers, step", EIGHT, Target::OfBest(0.88)),
    aim("others' load on eight workers", DEFAULT, Target::OfBest(0.88)),
    aim("others' load on eight workers", EIGHT, Target::OfBest(0.88)),
    aim("fleet of 20 at eight workers", DEFAULT, FLEET),
    aim("fleet of 20 at a shared eight", DEFAULT, FLEET),
    aim("fleet of 20 at eight workers", EIGHT, FLEET),
];

/// Whether a scene reaches its aim, and the aim in words; none without an aim.
pub(crate) fn check(runs: &[crate::figures::Run], scene: &str, most: usize) -> Option<(bool, String)> {
    let named = AIMS.iter().find(|aim| aim.scene == scene && aim.most == most).map(|aim| aim.target);
    let target = named.or_else(|| scene.starts_with(ONE_WORKER_PREFIX).then_some(ONE_WORKER))?;
    let of = |client: &str, figure: &str| Seeds::of(runs, scene, client).mean(figure).unwrap_or_default();
    let (ours, serial, best) = (rule_name(most), serial_name(most), oracle_name(most));
    let share = of(&ours, "goodput") / of(&best, "goodput");
    Some(match target {
        Target::OfBest(least) => (share >= least, percent(least)),
        Target::OfSerial { share: least, more_504s } => {
            let of_serial = of(&ours, "goodput") / of(&serial, "goodput");
            let more = of(&ours, "504s") - of(&serial, "504s");
            let shown = format!("{} of serial, {more_504s:.0} more 504s", percent(least));
            (of_serial >= least && more <= more_504s, shown)
        }
        Target::NearSerial(points) => {
            let below = of(&serial, "goodput") - of(&ours, "goodput");
            (below <= points, format!("serial − {points}"))
        }
        Target::Throttled { share: least, throttled } => {
            let is_seldom = of(&ours, "429s_later") <= throttled;
            (share >= least && is_seldom, format!("{}, one 429 in {:.0}", percent(least), 1.0 / throttled))
        }
        Target::Fleet { share: least, jain } => {
            (share >= least && of(&ours, "jain") >= jain, format!("{}, Jain {jain}", percent(least)))
        }
    })
}

fn percent(share: f64) -> String {
    format!("{:.0}", 100.0 * share)
}
