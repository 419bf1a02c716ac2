//! The text format of Prometheus (version 0.0.4), for scrapers and tools without `OpenMetrics`.
//!
//! It differs in what this gateway uses only by its comments: the family of a counter has the name of its samples, there
//! are no units, and no line marks the end.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

const HELP_MARK: &str = "# HELP ";
const TYPE_MARK: &str = "# TYPE ";
const COUNTER_TYPE: &str = "counter";
const COUNTER_END: &str = "_total";

/// Converts `OpenMetrics` text.
pub(super) fn to_prometheus_text(open_metrics: &str) -> Result<String, fmt::Error> {
    let types = open_metrics.lines().filter_map(|line| line.strip_prefix(TYPE_MARK)?.split_once(' '));
    let counters: BTreeSet<&str> =
        types.filter(|(_, kind)| *kind == COUNTER_TYPE).map(|(name, _)| name).collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        let comment = [HELP_MARK, TYPE_MARK]
            .into_iter()
            .find_map(|mark| Some((mark, line.strip_prefix(mark)?.split_once(' ')?)));
        match comment {
            Some((mark, (name, rest))) => {
                let end = if counters.contains(name) { COUNTER_END } else { "" };
                writeln!(text, "{mark}{name}{end} {rest}")?;
            }
            None if line.starts_with('#') => {}
            None => writeln!(text, "{line}")?,
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_named_by_their_samples_and_other_comments_are_left_out() {
        let open_metrics = "# HELP a_seconds Time.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\n\
                            a_seconds_total 1.5\n# HELP b Number.\n# TYPE b gauge\nb{c=\"d\"} 2\n# EOF\n";
        assert_eq!(
            to_prometheus_text(open_metrics).unwrap(),
            "# HELP a_seconds_total Time.\n# TYPE a_seconds_total counter\na_seconds_total 1.5\n\
             # HELP b Number.\n# TYPE b gauge\nb{c=\"d\"} 2\n"
        );
    }
}
