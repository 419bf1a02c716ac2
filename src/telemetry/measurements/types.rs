//! Records by type, and the sums from which the cost of a record of each type follows.
//!
//! Batches mix types, so the duration of a batch divided by its records says little about one of them. The model is
//! `duration = overhead + Σ count · cost`, and the sums of its normal equations can be added up: over batches, days
//! and types that share an entry.
//!
//! Where a table has too many types, the one that took the least time moves to the shared entry. A type that follows
//! starts from the time of the one that made room: A. Metwally, D. Agrawal and A. El Abbadi, "Efficient Computation of
//! Frequent and Top-k Elements in Data Streams" (Space-Saving), 2005. So every type that took more than its share of
//! the time has an entry of its own, in whichever order the types come.

use serde::{Deserialize, Serialize};

use super::durations::Durations;
use super::least_squares::NormalEquations;
use super::numbers::{add_to, mean_of, to_float, to_millis};
use super::stalls::UsualCosts;
use crate::api::TypeReport;

/// Types with an entry of their own in a day, those that took the most time; the rest share one.
pub(super) const DAILY_TYPES_MAX: usize = 16;
/// Types with an entry of their own in a report.
pub(super) const REPORTED_TYPES_MAX: usize = 48;
pub(super) const OTHER_TYPES_NAME: &str = "(other types)";
/// A cost is used if its standard error is at most this share of it, or of the mean duration per record.
const ERROR_SHARE_MAX: f64 = 0.2;
/// Measured batches beyond the number of parameters before costs are used.
const SPARE_BATCHES_MIN: u64 = 4;
/// The variance that rounding a duration to milliseconds adds.
const ROUNDING_VARIANCE: f64 = 1.0 / 12.0;

/// The types of a day or of a report.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct TypeTable {
    /// Successful batches, the sum of their durations, and that of the squares, as far as the model uses them.
    batches: u64,
    duration_ms: u64,
    squared_ms: f64,
    /// Batches of which the model uses less than their duration, and the time that it leaves out.
    stalls: u64,
    stalled_ms: u64,
    entries: Vec<TypeEntry>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct TypeEntry {
    name: String,
    /// In successful batches.
    durations: Durations,
    failures: u64,
    failed_micros: u64,
    quarantined: u64,
    /// The sum of count · count for each entry up to this one.
    products: Vec<u64>,
    /// The sum of count · duration in milliseconds.
    weighted_ms: u64,
    /// The time of the type that made room for this one.
    inherited_micros: u64,
}

impl TypeEntry {
    fn new(name: &str, index: usize, inherited_micros: u64) -> Self {
        Self { name: name.to_owned(), products: vec![0; index + 1], inherited_micros, ..Self::default() }
    }

    fn merge(&mut self, other: &Self) {
        self.durations.merge(&other.durations);
        add_to(&mut self.failures, other.failures);
        add_to(&mut self.failed_micros, other.failed_micros);
        add_to(&mut self.quarantined, other.quarantined);
        add_to(&mut self.weighted_ms, other.weighted_ms);
        add_to(&mut self.inherited_micros, other.inherited_micros);
    }

    /// The time by which types are ranked.
    fn ranked_micros(&self) -> u64 {
        let own = self.durations.micros().saturating_add(self.failed_micros);
        own.saturating_add(self.inherited_micros)
    }
}

impl TypeTable {
    /// A batch of `records` got a result for each record. `modelled_ms` is what the model uses of its duration.
    pub(super) fn add_success(
        &mut self,
        types: &[(String, u64)],
        records: u64,
        elapsed_ms: u64,
        modelled_ms: u64,
    ) {
        add_to(&mut self.batches, 1);
        add_to(&mut self.duration_ms, modelled_ms);
        self.squared_ms += to_float(modelled_ms) * to_float(modelled_ms);
        add_to(&mut self.stalls, u64::from(modelled_ms < elapsed_ms));
        add_to(&mut self.stalled_ms, elapsed_ms.saturating_sub(modelled_ms));
        let each_micros = elapsed_ms.saturating_mul(1000) / records.max(1);
        let counts = self.count_entries(types);
        for (index, count) in &counts {
            let entry = &mut self.entries[*index];
            entry.durations.add_records(*count, each_micros);
            add_to(&mut entry.weighted_ms, count.saturating_mul(modelled_ms));
            for (other, other_count) in counts.iter().filter(|(other, _)| other <= index) {
                add_to(&mut entry.products[*other], count.saturating_mul(*other_count));
            }
        }
    }

    /// A batch of `records` failed.
    pub(super) fn add_failure(&mut self, types: &[(String, u64)], records: u64, elapsed_ms: u64) {
        for (index, count) in self.count_entries(types) {
            let entry = &mut self.entries[index];
            add_to(&mut entry.failures, 1);
            let micros = elapsed_ms.saturating_mul(1000).saturating_mul(count) / records.max(1);
            add_to(&mut entry.failed_micros, micros);
        }
    }

    pub(super) fn add_quarantined(&mut self, name: &str) {
        self.admit_type(name, DAILY_TYPES_MAX);
        let index = self.entry_index(name);
        add_to(&mut self.entries[index].quarantined, 1);
    }

    /// Adds another table. `types_max` is how many types have an entry of their own in the sum.
    pub(super) fn merge(&mut self, other: &Self, types_max: usize) {
        add_to(&mut self.batches, other.batches);
        add_to(&mut self.duration_ms, other.duration_ms);
        self.squared_ms += other.squared_ms;
        add_to(&mut self.stalls, other.stalls);
        add_to(&mut self.stalled_ms, other.stalled_ms);
        let indexes: Vec<usize> = other.entries.iter().map(|entry| self.entry_index(&entry.name)).collect();
        for (theirs, index) in other.entries.iter().zip(&indexes) {
            self.entries[*index].merge(theirs);
        }
        for (own, theirs) in other.entries.iter().enumerate() {
            for (partner, product) in theirs.products.iter().enumerate() {
                let (row, column) = (indexes[own], indexes[partner]);
                // Two types that share an entry from now on meet in the square of its count, in both orders.
                let is_doubled = row == column && own != partner;
                let product = if is_doubled { product.saturating_mul(2) } else { *product };
                add_to(self.product_mut(row, column), product);
            }
        }
        while self.own_entries() > types_max {
            self.share_entry_of_least();
        }
    }

    /// The counts of the entries that a batch contains, in their order.
    fn count_entries(&mut self, types: &[(String, u64)]) -> Vec<(usize, u64)> {
        for (name, _) in types {
            self.admit_type(name, DAILY_TYPES_MAX);
        }
        let mut counts: Vec<(usize, u64)> = Vec::with_capacity(types.len());
        for (name, count) in types {
            // A type of the batch may have made room for another one.
            let name = if self.find_entry(name).is_some() { name } else { OTHER_TYPES_NAME };
            let index = self.entry_index(name);
            match counts.iter_mut().find(|(known, _)| *known == index) {
                Some((_, sum)) => add_to(sum, *count),
                None => counts.push((index, *count)),
            }
        }
        counts
    }

    fn find_entry(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.name == name)
    }

    fn entry_index(&mut self, name: &str) -> usize {
        self.find_entry(name).unwrap_or_else(|| {
            let index = self.entries.len();
            self.entries.push(TypeEntry::new(name, index, 0));
            index
        })
    }

    fn own_entries(&self) -> usize {
        self.entries.iter().filter(|entry| entry.name != OTHER_TYPES_NAME).count()
    }

    /// Gives a type an entry of its own. Where there is no room, the type that took the least time makes it.
    fn admit_type(&mut self, name: &str, types_max: usize) {
        if self.find_entry(name).is_some() {
            return;
        }
        let mut inherited_micros = 0;
        while self.own_entries() >= types_max {
            inherited_micros = self.share_entry_of_least();
        }
        self.entries.push(TypeEntry::new(name, self.entries.len(), inherited_micros));
    }

    /// Moves the type that took the least time to the shared entry, and returns this time.
    fn share_entry_of_least(&mut self) -> u64 {
        let own = self.entries.iter().enumerate().filter(|(_, entry)| entry.name != OTHER_TYPES_NAME);
        let least = own.map(|(index, entry)| (entry.ranked_micros(), index)).min();
        let Some((micros, index)) = least else { return 0 };
        let Some(shared) = self.find_entry(OTHER_TYPES_NAME) else {
            OTHER_TYPES_NAME.clone_into(&mut self.entries[index].name);
            return micros;
        };
        for other in 0..self.entries.len() {
            let product = *self.product_mut(index, other);
            match other {
                _ if other == index => add_to(self.product_mut(shared, shared), product),
                // Two types that share an entry meet in the square of its count, in both orders.
                _ if other == shared => add_to(self.product_mut(shared, shared), product.saturating_mul(2)),
                _ => add_to(self.product_mut(shared, other), product),
            }
        }
        let leaving = std::mem::take(&mut self.entries[index]);
        self.entries[shared].merge(&leaving);
        self.entries.remove(index);
        for entry in &mut self.entries[index..] {
            entry.products.remove(index);
        }
        micros
    }

    fn product_mut(&mut self, row: usize, column: usize) -> &mut u64 {
        &mut self.entries[row.max(column)].products[row.min(column)]
    }

    /// Makes a decoded table consistent: a note on disk may be damaged.
    pub(super) fn repair(&mut self) {
        self.entries.truncate(DAILY_TYPES_MAX + 1);
        for (index, entry) in self.entries.iter_mut().enumerate() {
            entry.products.resize(index + 1, 0);
        }
    }

    /// The types, the slowest first, and what a batch takes besides its records.
    pub(super) fn to_report(&self) -> (Vec<TypeReport>, Option<f64>) {
        let costs = self.separate_costs();
        let mut reports: Vec<TypeReport> = self
            .entries
            .iter()
            .zip(&costs.each_ms)
            .map(|(entry, cost_ms)| {
                let records = entry.durations.records();
                let ms_per_record = cost_ms.unwrap_or(entry.durations.mean_ms());
                let failed_ms = to_millis(entry.failed_micros);
                TypeReport {
                    record_type: entry.name.clone(),
                    records,
                    per_record: entry.durations.to_report(),
                    ms_per_record,
                    is_separated: cost_ms.is_some(),
                    delay_ms: to_float(records) * ms_per_record + failed_ms,
                    failed_ms,
                    delay_share: 0.0,
                    failures: entry.failures,
                    quarantined: entry.quarantined,
                }
            })
            .collect();
        let delay_ms: f64 = reports.iter().map(|report| report.delay_ms).sum();
        for report in &mut reports {
            report.delay_share = if delay_ms > 0.0 { report.delay_ms / delay_ms } else { 0.0 };
        }
        reports.sort_by(|one, other| other.ms_per_record.total_cmp(&one.ms_per_record));
        (reports, costs.overhead_ms)
    }

    /// What each record usually costs, as far as enough batches were measured.
    pub(super) fn usual_costs(&self) -> Option<UsualCosts> {
        let model = self.fit_model()?;
        let costs = model.measured.iter().zip(&model.solution[1..]);
        let names = costs.map(|(index, cost_ms)| (self.entries[*index].name.clone(), *cost_ms));
        Some(UsualCosts { overhead_ms: model.solution[0], each_ms: names.collect() })
    }

    /// The parameters of the model that the data separates from the others.
    fn separate_costs(&self) -> Costs {
        let mut costs = Costs { each_ms: vec![None; self.entries.len()], overhead_ms: None };
        let Some(Model { measured, products, targets, equations, solution, spare }) = self.fit_model() else {
            return costs;
        };
        let variance =
            self.unexplained_squares(&products, &targets, &solution) / to_float(spare) + ROUNDING_VARIANCE;
        let records: u64 = measured.iter().map(|index| self.entries[*index].durations.records()).sum();
        let is_separated = |parameter: usize, typical_ms: f64| {
            let part = equations.independent_part(parameter);
            part > 0.0 && (variance / part).sqrt() <= ERROR_SHARE_MAX * typical_ms.max(solution[parameter])
        };
        let batch_ms = mean_of(to_float(self.duration_ms), self.batches).unwrap_or_default();
        let record_ms = mean_of(to_float(self.duration_ms), records).unwrap_or_default();
        costs.overhead_ms = is_separated(0, batch_ms).then(|| solution[0]);
        for (parameter, index) in (1..).zip(measured) {
            costs.each_ms[index] = is_separated(parameter, record_ms).then(|| solution[parameter]);
        }
        costs
    }

    /// The model that fits best; none if too few batches were measured.
    fn fit_model(&self) -> Option<Model> {
        let measured: Vec<usize> =
            (0..self.entries.len()).filter(|index| self.entries[*index].durations.records() > 0).collect();
        let parameters = measured.len() as u64 + 1;
        let spare = self.batches.checked_sub(parameters).filter(|spare| *spare >= SPARE_BATCHES_MIN)?;
        let products = self.products_of(&measured);
        let weighted = measured.iter().map(|index| to_float(self.entries[*index].weighted_ms));
        let targets: Vec<f64> = std::iter::once(to_float(self.duration_ms)).chain(weighted).collect();
        let equations = NormalEquations::new(&products, &targets);
        let solution = equations.solve_non_negative();
        Some(Model { measured, products, targets, equations, solution, spare })
    }

    /// `XᵀX` of the overhead and of these entries.
    fn products_of(&self, measured: &[usize]) -> Vec<Vec<f64>> {
        let records = measured.iter().map(|index| to_float(self.entries[*index].durations.records()));
        let overhead: Vec<f64> = std::iter::once(to_float(self.batches)).chain(records).collect();
        let mut products = vec![overhead.clone()];
        for (row, own) in measured.iter().zip(&overhead[1..]) {
            let others = measured.iter().map(|column| {
                let (upper, lower) = ((*row).max(*column), (*row).min(*column));
                to_float(self.entries[upper].products[lower])
            });
            products.push(std::iter::once(*own).chain(others).collect());
        }
        products
    }

    /// The sum of the squared differences between the durations and the model.
    fn unexplained_squares(&self, products: &[Vec<f64>], targets: &[f64], solution: &[f64]) -> f64 {
        let dot = |one: &[f64]| one.iter().zip(solution).map(|(a, b)| a * b).sum::<f64>();
        let modelled: Vec<f64> = products.iter().map(|row| dot(row)).collect();
        (self.squared_ms - 2.0 * dot(targets) + dot(&modelled)).max(0.0)
    }
}

struct Costs {
    each_ms: Vec<Option<f64>>,
    overhead_ms: Option<f64>,
}

/// Normal equations and their solution: the overhead first, then the cost of each of the measured entries.
struct Model {
    measured: Vec<usize>,
    products: Vec<Vec<f64>>,
    targets: Vec<f64>,
    equations: NormalEquations,
    solution: Vec<f64>,
    /// Batches beyond the number of parameters.
    spare: u64,
}
