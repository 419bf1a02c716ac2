//! Non-negative least squares on normal equations: FNNLS by R. Bro and S. de Jong, "A fast non-negativity-constrained
//! least squares algorithm", Journal of Chemometrics 11 (1997) 393–401, after C. Lawson and R. Hanson, "Solving Least
//! Squares Problems", 1974, chapter 23.
//!
//! Some dozens of parameters at most, so plain rows of numbers do.

/// A column is dependent on others if they leave less of it than this share.
const DEPENDENT_SHARE_MAX: f64 = 1e-9;
/// A gradient below this share of the target counts as zero.
const GRADIENT_SHARE_MIN: f64 = 1e-10;
/// Steps for each parameter before the search ends with what it has.
const STEPS_PER_PARAMETER: usize = 4;

/// `XᵀX` and `Xᵀy` of a linear model, scaled so that each column has the length 1.
pub(super) struct NormalEquations {
    products: Vec<Vec<f64>>,
    targets: Vec<f64>,
    lengths: Vec<f64>,
}

impl NormalEquations {
    /// From a symmetric matrix `XᵀX` and `Xᵀy`.
    pub(super) fn new(products: &[Vec<f64>], targets: &[f64]) -> Self {
        let lengths: Vec<f64> =
            products.iter().enumerate().map(|(index, row)| row[index].max(0.0).sqrt()).collect();
        let scale = |value: f64, length: f64| if length > 0.0 { value / length } else { 0.0 };
        let rows = products.iter().zip(&lengths).map(|(row, mine)| {
            row.iter().zip(&lengths).map(|(value, other)| scale(scale(*value, *mine), *other)).collect()
        });
        let targets = targets.iter().zip(&lengths).map(|(value, length)| scale(*value, *length)).collect();
        Self { products: rows.collect(), targets, lengths }
    }

    /// The parameters without a negative one that fit best.
    pub(super) fn solve_non_negative(&self) -> Vec<f64> {
        let count = self.targets.len();
        let mut solution = vec![0.0; count];
        let mut free: Vec<usize> = Vec::new();
        let mut is_excluded = vec![false; count];
        let target_size = self.targets.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
        for _ in 0..STEPS_PER_PARAMETER * count {
            let gradients = self.gradients(&solution);
            let candidates = (0..count).filter(|index| !free.contains(index) && !is_excluded[*index]);
            let steepest = candidates.max_by(|one, other| gradients[*one].total_cmp(&gradients[*other]));
            let Some(next) = steepest.filter(|index| gradients[*index] > GRADIENT_SHARE_MIN * target_size)
            else {
                break;
            };
            free.push(next);
            if !self.step_to_best(&mut solution, &mut free) {
                // Its column depends on those that are free already.
                free.retain(|index| *index != next);
                is_excluded[next] = true;
            }
        }
        solution
            .iter()
            .zip(&self.lengths)
            .map(|(value, length)| if *length > 0.0 { value / length } else { 0.0 })
            .collect()
    }

    /// How much of the squared length of a column the other columns do not explain. The variance of its parameter is the
    /// variance of the noise divided by this.
    pub(super) fn independent_part(&self, index: usize) -> f64 {
        let mut order: Vec<usize> = (0..self.targets.len()).filter(|other| *other != index).collect();
        order.push(index);
        let mut rest = self.products.clone();
        for (step, pivot) in order.iter().enumerate() {
            let size = rest[*pivot][*pivot];
            if *pivot == index {
                return size.max(0.0) * self.lengths[index].powi(2);
            }
            if size <= DEPENDENT_SHARE_MAX {
                continue;
            }
            for row in &order[step + 1..] {
                let factor = rest[*row][*pivot] / size;
                for column in &order[step + 1..] {
                    let product = rest[*pivot][*column];
                    rest[*row][*column] -= factor * product;
                }
            }
        }
        0.0
    }

    /// `Xᵀ(y − X·solution)`
    fn gradients(&self, solution: &[f64]) -> Vec<f64> {
        let rows = self.products.iter().zip(&self.targets);
        rows.map(|(row, target)| target - row.iter().zip(solution).map(|(a, b)| a * b).sum::<f64>()).collect()
    }

    /// Moves to the best values of the free parameters, and fixes those at zero that would be negative. False if they
    /// depend on each other.
    fn step_to_best(&self, solution: &mut [f64], free: &mut Vec<usize>) -> bool {
        while let Some(best) = self.solve_free(free) {
            let negative = free.iter().zip(&best).filter(|(_, value)| **value <= 0.0);
            let shares = negative.map(|(index, value)| solution[*index] / (solution[*index] - value));
            let share = shares.fold(1.0, f64::min);
            let all_positive = best.iter().all(|value| *value > 0.0);
            for (index, value) in free.iter().zip(&best) {
                solution[*index] += share * (value - solution[*index]);
            }
            if all_positive {
                return true;
            }
            let is_fixed = |index: &usize| solution[*index] <= f64::EPSILON;
            let fixed: Vec<usize> = free.iter().copied().filter(is_fixed).collect();
            free.retain(|index| !fixed.contains(index));
            for index in fixed {
                solution[index] = 0.0;
            }
        }
        false
    }

    /// The best values of these parameters with all others at zero, by Cholesky's decomposition; none if their columns
    /// depend on each other.
    fn solve_free(&self, free: &[usize]) -> Option<Vec<f64>> {
        let mut factor: Vec<Vec<f64>> = Vec::with_capacity(free.len());
        let mut values: Vec<f64> = Vec::with_capacity(free.len());
        for (row, index) in free.iter().enumerate() {
            let mut line: Vec<f64> = Vec::with_capacity(row + 1);
            for (column, other) in free[..row].iter().enumerate() {
                let known: f64 = line.iter().zip(&factor[column]).map(|(a, b)| a * b).sum();
                line.push((self.products[*index][*other] - known) / factor[column][column]);
            }
            let rest = self.products[*index][*index] - line.iter().map(|value| value * value).sum::<f64>();
            if rest <= DEPENDENT_SHARE_MAX {
                return None;
            }
            let known: f64 = line.iter().zip(&values).map(|(a, b)| a * b).sum();
            line.push(rest.sqrt());
            values.push((self.targets[*index] - known) / rest.sqrt());
            factor.push(line);
        }
        for row in (0..free.len()).rev() {
            let known: f64 = (row + 1..free.len()).map(|below| factor[below][row] * values[below]).sum();
            values[row] = (values[row] - known) / factor[row][row];
        }
        Some(values)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn equations_of(rows: &[Vec<f64>], targets: &[f64]) -> NormalEquations {
        let columns = rows.first().map_or(0, Vec::len);
        let product = |i: usize, j: usize| rows.iter().map(|row| row[i] * row[j]).sum();
        let products: Vec<Vec<f64>> =
            (0..columns).map(|i| (0..columns).map(|j| product(i, j)).collect()).collect();
        let sums: Vec<f64> = (0..columns)
            .map(|i| rows.iter().zip(targets).map(|(row, target)| row[i] * target).sum())
            .collect();
        NormalEquations::new(&products, &sums)
    }

    #[test]
    fn the_parameters_that_made_the_data_are_found() {
        let rows = [[1.0, 3.0, 7.0], [1.0, 9.0, 1.0], [1.0, 2.0, 2.0], [1.0, 0.0, 5.0]].map(Vec::from);
        let targets: Vec<f64> = rows.iter().map(|row| 20.0 + 2.0 * row[1] + 10.0 * row[2]).collect();
        let solution = equations_of(&rows, &targets).solve_non_negative();
        for (found, expected) in solution.iter().zip([20.0, 2.0, 10.0]) {
            assert!((found - expected).abs() < 1e-6, "{solution:?}");
        }
    }

    #[test]
    fn a_parameter_that_would_be_negative_is_zero() {
        let rows = [[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]].map(Vec::from);
        let solution = equations_of(&rows, &[1.0, 4.0, 7.0]).solve_non_negative();
        assert!(solution[0] <= 0.0 && (solution[1] - 30.0 / 14.0).abs() < 1e-9, "{solution:?}");
    }

    #[test]
    fn columns_that_depend_on_each_other_have_no_independent_part() {
        let rows = [[1.0, 2.0, 4.0], [1.0, 3.0, 6.0], [1.0, 7.0, 14.0]].map(Vec::from);
        let equations = equations_of(&rows, &[5.0, 7.0, 15.0]);
        assert!(equations.independent_part(0) > 0.1);
        assert!(equations.independent_part(1) < 1e-6 && equations.independent_part(2) < 1e-6);
        assert!(equations.solve_non_negative().iter().all(|value| value.is_finite()));
    }

    proptest! {
        /// The conditions of Karush, Kuhn and Tucker, which hold only for the best solution.
        #[test]
        fn no_small_change_fits_better(
            rows in prop::collection::vec(prop::collection::vec(0.0..50.0_f64, 4), 6..30),
            noise in prop::collection::vec(-300.0..3000.0_f64, 30),
        ) {
            let equations = equations_of(&rows, &noise[..rows.len()]);
            let solution = equations.solve_non_negative();
            prop_assert!(solution.iter().all(|value| *value >= 0.0));
            let scaled: Vec<f64> = solution.iter().zip(&equations.lengths).map(|(value, length)| value * length).collect();
            for (value, gradient) in scaled.iter().zip(equations.gradients(&scaled)) {
                let tolerance = 1e-6 * (1.0 + equations.targets.iter().map(|value| value.abs()).sum::<f64>());
                prop_assert!(gradient <= tolerance, "{solution:?} {gradient}");
                prop_assert!(*value <= 0.0 || gradient.abs() <= tolerance, "{solution:?} {gradient}");
            }
        }
    }
}
