//! The runs of one client in one scene, combined over the seeds.

use crate::figures::{Figures, Run};

pub(crate) struct Seeds<'r> {
    pub(crate) runs: Vec<&'r Figures>,
}

impl<'r> Seeds<'r> {
    pub(crate) fn of(runs: &'r [Run], scene: &str, client: &str) -> Self {
        let wanted = |run: &&Run| run.scene == scene && run.client == client;
        Self { runs: runs.iter().filter(wanted).map(|run| &run.figures).collect() }
    }

    pub(crate) fn values(&self, figure: &str) -> Vec<f64> {
        self.runs.iter().filter_map(|figures| figures.get(figure)).copied().collect()
    }

    pub(crate) fn mean(&self, figure: &str) -> Option<f64> {
        let values = self.values(figure);
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }

    pub(crate) fn least(&self, figure: &str) -> Option<f64> {
        self.values(figure).into_iter().min_by(f64::total_cmp)
    }

    /// The mean, with this many decimal places.
    pub(crate) fn show(&self, figure: &str, digits: usize) -> String {
        shown(self.mean(figure), digits)
    }
}

pub(crate) fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".into(), |value| format!("{value:.digits$}"))
}
