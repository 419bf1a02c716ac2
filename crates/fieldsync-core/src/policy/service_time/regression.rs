//! A linear model whose parameters move: Bayesian linear regression in Kalman's form (recursive least
//! squares with process noise). Source: A. Harvey, "Forecasting, Structural Time Series Models and
//! the Kalman Filter", 1989, ch. 3.
//!
//! Constraints: parameters are costs, so none is below zero; what is not known of one never exceeds
//! what was not known at first or its own size, whichever is more. A score of parameters at most,
//! so plain rows of numbers do.

use serde::{Deserialize, Serialize};

/// The model: a mean and a covariance of its parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Regression {
    mean: Vec<f64>,
    /// What was not known of each parameter at first, as a standard deviation.
    first: Vec<f64>,
    /// Row by row.
    covariance: Vec<Vec<f64>>,
}

impl Regression {
    /// One more parameter, unlike the others.
    pub(super) fn add(&mut self, mean: f64, deviation: f64) {
        self.mean.push(mean);
        self.first.push(deviation);
        for row in &mut self.covariance {
            row.push(0.0);
        }
        let mut row = vec![0.0; self.mean.len()];
        if let Some(own) = row.last_mut() {
            *own = deviation * deviation;
        }
        self.covariance.push(row);
    }

    /// The parameter at `index`.
    pub(super) fn parameter(&self, index: usize) -> f64 {
        self.mean.get(index).copied().unwrap_or_default()
    }

    /// What is expected at `x`.
    pub(super) fn expected(&self, x: &[f64]) -> f64 {
        dot(&self.mean, x)
    }

    /// How uncertain that is, as a variance.
    pub(super) fn variance(&self, x: &[f64]) -> f64 {
        dot(&self.spread_along(x), x).max(0.0)
    }

    /// The parameters moved: all of them together by the share `common` of their size, and each for
    /// itself by the share `own`.
    pub(super) fn drift(&mut self, common: f64, own: f64) {
        for (i, row) in self.covariance.iter_mut().enumerate() {
            let mine = self.mean.get(i).copied().unwrap_or_default();
            for (j, (cell, other)) in row.iter_mut().zip(&self.mean).enumerate() {
                *cell += common * common * mine * other;
                if i == j {
                    *cell += own * own * mine * mine;
                }
            }
        }
        self.bound();
    }

    /// `y` was seen at `x`, with noise of the variance `noise`.
    pub(super) fn learn(&mut self, x: &[f64], y: f64, noise: f64) {
        let along = self.spread_along(x);
        let total = dot(&along, x) + noise;
        if total <= 0.0 {
            return;
        }
        let surprise = y - self.expected(x);
        for (mean, gain) in self.mean.iter_mut().zip(&along) {
            *mean = (*mean + gain / total * surprise).max(0.0);
        }
        for (row, mine) in self.covariance.iter_mut().zip(&along) {
            for (cell, other) in row.iter_mut().zip(&along) {
                *cell -= mine * other / total;
            }
        }
        self.bound();
    }

    fn spread_along(&self, x: &[f64]) -> Vec<f64> {
        self.covariance.iter().map(|row| dot(row, x)).collect()
    }

    /// Holds every variance between nothing and its bound.
    fn bound(&mut self) {
        let scales: Vec<f64> = (0..self.mean.len())
            .map(|i| {
                let first = self.first.get(i).copied().unwrap_or_default();
                let most = first.max(self.parameter(i)).powi(2);
                let now = self.covariance.get(i).and_then(|row| row.get(i)).copied().unwrap_or_default();
                if now > most && now > 0.0 { (most / now).sqrt() } else { 1.0 }
            })
            .collect();
        for (i, (row, mine)) in self.covariance.iter_mut().zip(&scales).enumerate() {
            for (j, (cell, other)) in row.iter_mut().zip(&scales).enumerate() {
                *cell *= mine * other;
                if i == j {
                    *cell = cell.max(0.0);
                }
            }
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn two() -> Regression {
        let mut model = Regression::default();
        model.add(1.0, 5.0);
        model.add(1.0, 5.0);
        model
    }

    #[test]
    fn it_finds_the_line_that_made_the_points() {
        let mut model = two();
        for n in [5.0, 10.0, 20.0, 40.0, 7.0, 33.0] {
            model.learn(&[1.0, n], 3.0 + 0.5 * n, 1e-6);
        }
        assert!((model.parameter(0) - 3.0).abs() < 0.01 && (model.parameter(1) - 0.5).abs() < 0.01);
        assert!(model.variance(&[1.0, 20.0]) < 0.01);
    }

    #[test]
    fn what_moves_together_is_followed_together() {
        let mut model = two();
        for n in [5.0, 10.0, 20.0, 40.0] {
            model.learn(&[1.0, n], 3.0 + 0.5 * n, 1e-6);
        }
        model.drift(1.0, 0.0);
        model.learn(&[1.0, 20.0], 26.0, 0.01);
        assert!((model.expected(&[1.0, 5.0]) - 11.0).abs() < 0.3, "twice as slow: {model:?}");
    }

    proptest! {
        #[test]
        fn it_stays_sane_whatever_it_is_told(
            points in prop::collection::vec((0.0f64..1000.0, 0.0f64..1e6, 0.0f64..2.0), 1..200),
        ) {
            let mut model = two();
            for (n, y, drift) in points {
                model.drift(drift, drift / 10.0);
                model.learn(&[1.0, n], y, (0.1 * y).powi(2) + 1e-9);
                prop_assert!(model.expected(&[1.0, n]) >= 0.0);
                prop_assert!(model.variance(&[1.0, n]).is_finite());
            }
        }
    }
}
