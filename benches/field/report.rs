//! Combines the seeds: a table for people, and all figures as JSON.

use std::collections::BTreeSet;

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::figures::{Figures, Run, median};
use crate::target;

const TABLE_HEAD: [&str; 15] = [
    "scene",
    "naive",
    "literal",
    "fieldsync (worst)",
    "aim",
    "others (worst)",
    "504s literal → fieldsync (oracle)",
    "failed tests a fault",
    "isolated after",
    "in outage: posts + look-ups",
    "recovery",
    "sent in vain",
    "false quarantines literal / fieldsync",
    "missed",
    "lost",
];

/// The seeds of one client in one scene.
struct Seeds<'r> {
    runs: Vec<&'r Figures>,
}

impl Seeds<'_> {
    fn values(&self, figure: &str) -> Vec<f64> {
        self.runs.iter().filter_map(|figures| figures.get(figure)).copied().collect()
    }

    fn mean(&self, figure: &str) -> Option<f64> {
        let values = self.values(figure);
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }

    fn least(&self, figure: &str) -> Option<f64> {
        self.values(figure).into_iter().min_by(f64::total_cmp)
    }

    /// The mean, with this many decimal places.
    fn show(&self, figure: &str, digits: usize) -> String {
        shown(self.mean(figure), digits)
    }
}

fn seeds<'r>(runs: &'r [Run], scene: &str, client: &str) -> Seeds<'r> {
    let wanted = |run: &&Run| run.scene == scene && run.client == client;
    Seeds { runs: runs.iter().filter(wanted).map(|run| &run.figures).collect() }
}

fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".into(), |value| format!("{value:.digits$}"))
}

fn time(seconds: Option<f64>) -> String {
    seconds.map_or_else(
        || "–".into(),
        |seconds| {
            if seconds < 600.0 { format!("{seconds:.0} s") } else { format!("{:.0} min", seconds / 60.0) }
        },
    )
}

pub(crate) fn table(scenes: &[&str], runs: &[Run]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(TABLE_HEAD);
    for scene in scenes {
        let of = |client| seeds(runs, scene, client);
        let (naive, literal, ours, oracle) = (of("naive"), of("literal"), of("fieldsync"), of("oracle"));
        let finished = ours.mean("finished").is_none_or(|finished| finished >= 1.0);
        table.add_row([
            (*scene).to_owned(),
            naive.show("goodput", 0),
            literal.show("goodput", 0),
            format!(
                "{} ({}){}",
                ours.show("goodput", 1),
                shown(ours.least("goodput"), 0),
                if finished { "" } else { " unfinished" },
            ),
            target::goodput(scene).map_or_else(
                || "–".into(),
                |aim| {
                    let reached = ours.mean("goodput").is_none_or(|mean| target::reached(scene, mean));
                    format!("{aim:.1}{}", if reached { "" } else { ", missed" })
                },
            ),
            format!("{} ({})", ours.show("others", 1), shown(ours.least("others"), 0)),
            format!("{} → {} ({})", literal.show("504s", 1), ours.show("504s", 1), oracle.show("504s", 1)),
            ours.show("tests", 1),
            time(ours.mean("isolation")),
            ours.mean("posts_in_outage").map_or_else(
                || "–".into(),
                |posts| format!("{posts:.1} + {}", ours.show("look_ups_in_outage", 1)),
            ),
            time(ours.mean("recovery")),
            ours.show("in_vain", 0),
            format!("{} / {}", literal.show("false_quarantines", 1), ours.show("false_quarantines", 1)),
            ours.show("missed", 1),
            ours.show("lost", 1),
        ]);
    }
    table
}

/// By scene, client and figure: the mean, the median, the least and the most.
pub(crate) fn json(scenes: &[&str], runs: &[Run]) -> Value {
    let mut all = json!({});
    for scene in scenes {
        for client in ["oracle", "naive", "literal", "fieldsync"] {
            let seeds = seeds(runs, scene, client);
            let figures: BTreeSet<&str> = seeds.runs.iter().flat_map(|run| run.keys().copied()).collect();
            for figure in figures {
                let values = seeds.values(figure);
                let most = values.iter().copied().max_by(f64::total_cmp);
                all[scene][client][figure] = json!({
                    "mean": seeds.mean(figure),
                    "median": median(values),
                    "least": seeds.least(figure),
                    "most": most,
                });
            }
        }
    }
    all
}
