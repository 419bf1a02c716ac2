//! Combines the seeds: a table for people, and all figures as JSON.

use std::collections::BTreeSet;

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::figures::{Run, median};
use crate::seeds::{Seeds, shown};
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
        let of = |client| Seeds::of(runs, scene, client);
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
pub(crate) fn json(runs: &[Run]) -> Value {
    let named: BTreeSet<(&str, &str)> =
        runs.iter().map(|run| (run.scene.as_str(), run.client.as_str())).collect();
    let mut all = json!({});
    for (scene, client) in named {
        let seeds = Seeds::of(runs, scene, client);
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
    all
}
