//! The list of all families, from which every exposition is made.

use super::counter_families::counter_families;
use super::device_families::device_families;
use super::family::MetricFamily;
use super::sources::MetricSources;
use super::status_families::status_families;

/// All families that have a value, in the order in which they are written.
pub fn collect_families(sources: &MetricSources<'_>) -> Vec<MetricFamily> {
    let mut families = status_families(sources);
    families.extend(counter_families(sources));
    families.extend(device_families(sources));
    families.retain(|family| !family.points.is_empty());
    families
}
