//! The aims: figures that a similar algorithm has reached, as means over seeds, in percent of the oracle's goodput. In
//! scenes without a row, the only aim is that nothing goes wrong.

use crate::figures::{Figures, Run};

/// The mean may be this many percentage points below the aim.
const TOLERANCE_POINTS: f64 = 2.0;

/// Goodput by scene.
const GOODPUT_AIMS: [(&str, f64); 22] = [
    ("customer: T = 40 s", 99.0),
    ("steady", 99.8),
    ("noisy", 98.7),
    ("typed", 98.6),
    ("bytes", 99.0),
    ("drift", 99.6),
    ("step", 99.6),
    ("superlinear", 88.4),
    ("fast", 99.8),
    ("poison: 1 in 300", 48.6),
    ("poison: 5 in 1,000", 40.7),
    ("poison: 5 late in 6,000", 80.0),
    ("poison burst: 20 within 200", 22.4),
    ("refused, unnamed: 5", 96.5),
    ("rejected by name: 5", 99.4),
    ("outage: 504 for 4 h", 99.2),
    ("outage: 503 for 8 h", 99.5),
    ("outage: 504 for 2 h, 3 poison", 88.7),
    ("flapping link", 86.9),
    ("slow link", 98.9),
    ("429: 4 in 240 s", 97.3),
    ("5 % random 504", 97.9),
];

/// Figures that must be zero in every scene with every seed.
const FORBIDDEN_FIGURES: [&str; 4] = ["false_quarantines", "missed", "lost", "doubled"];

/// The aim of a scene.
pub(crate) fn goodput(scene: &str) -> Option<f64> {
    GOODPUT_AIMS.iter().find(|(name, _)| *name == scene).map(|(_, aim)| *aim)
}

/// Whether a mean is as good as the aim.
pub(crate) fn reached(scene: &str, mean: f64) -> bool {
    goodput(scene).is_none_or(|aim| mean >= aim - TOLERANCE_POINTS)
}

/// Describes the runs that lost, missed, doubled or wrongly quarantined a record, or did not finish.
pub(crate) fn wrongs(runs: &[Run]) -> Vec<String> {
    let unfinished = |figures: &Figures| figures.get("finished").is_some_and(|finished| *finished < 1.0);
    let is_other = |client: &str| ["naive", "literal"].contains(&client) || client.starts_with("oracle");
    let ours = runs.iter().filter(|run| !is_other(&run.client));
    ours.flat_map(|run| {
        let never = FORBIDDEN_FIGURES
            .into_iter()
            .filter(|name| run.figures.get(name).is_some_and(|count| *count > 0.0));
        let never = never.chain(unfinished(&run.figures).then_some("unfinished"));
        never
            .map(|what| format!("{}, {}, seed {}: {what}", run.scene, run.client, run.seed))
            .collect::<Vec<_>>()
    })
    .collect()
}
