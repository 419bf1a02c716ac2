//! Histograms with fixed classes.

/// Counts values in classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// The upper bound of each class but the last, which has none.
    bounds: &'static [f64],
    /// Values by class: one more than bounds.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    /// A histogram without values.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// Counts a value. What is not a number is ignored.
    pub fn observe(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        let class = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(class) {
            *count += 1;
            self.sum += value;
        }
    }

    /// The upper bounds of all classes but the last.
    pub fn bounds(&self) -> &'static [f64] {
        self.bounds
    }

    /// Values by class.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// All values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum.
    pub fn sum(&self) -> f64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_the_class_below_it() {
        let mut histogram = Histogram::new(&[1.0, 5.0]);
        for value in [0.0, 1.0, 1.5, 5.0, 5.1, f64::NAN, f64::INFINITY] {
            histogram.observe(value);
        }
        assert_eq!(histogram.counts(), [2, 2, 1]);
        assert_eq!(histogram.count(), 5);
        assert!((histogram.sum() - 12.6).abs() < 1e-9);
    }
}
