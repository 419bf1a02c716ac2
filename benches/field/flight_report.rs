//! The table of the scenes for several batches in flight: a row for each setting.

use comfy_table::{Table, presets};

use crate::aims;
use crate::figures::Run;
use crate::flight::{oracle_name, rule_name, serial_name};
use crate::seeds::{Seeds, shown};

const TABLE_HEAD: [&str; 12] = [
    "scene",
    "max_in_flight",
    "best window",
    "serial (worst)",
    "rule (worst)",
    "aim",
    "in flight",
    "504s serial → rule (oracle)",
    "429s, share later",
    "Jain serial → rule",
    "sent in vain",
    "lost, doubled, false quarantines, missed",
];

pub(crate) fn table(rows: &[(String, usize)], runs: &[Run]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(TABLE_HEAD);
    for (scene, most) in rows {
        let of = |client: String| Seeds::of(runs, scene, &client);
        let (serial, ours, oracle) = (of(serial_name(*most)), of(rule_name(*most)), of(oracle_name(*most)));
        let goodput = |seeds: &Seeds<'_>| {
            format!("{} ({})", seeds.show("goodput", 1), shown(seeds.least("goodput"), 1))
        };
        let aim = aims::check(runs, scene, *most).map_or_else(
            || "–".into(),
            |(is_reached, aim)| if is_reached { aim } else { format!("{aim}, **missed**") },
        );
        let throttled = match ours.mean("429s") {
            Some(count) if count > 0.0 => {
                let later = ours.mean("429s_later").map(|share| 100.0 * share);
                format!("{count:.1}, {} %", shown(later, 1))
            }
            _ => "–".into(),
        };
        let jain = ours
            .mean("jain")
            .map_or_else(|| "–".into(), |jain| format!("{} → {jain:.2}", serial.show("jain", 2)));
        let wrongs = ["lost", "doubled", "false_quarantines", "missed"].map(|figure| ours.show(figure, 1));
        table.add_row([
            scene.clone(),
            most.to_string(),
            oracle.show("window", 1),
            goodput(&serial),
            goodput(&ours),
            aim,
            ours.show("under_way", 1),
            format!("{} → {} ({})", serial.show("504s", 1), ours.show("504s", 1), oracle.show("504s", 1)),
            throttled,
            jain,
            ours.show("in_vain", 0),
            wrongs.join(", "),
        ]);
    }
    table
}
