//! A family of metrics, independent of how it is written.

use super::histogram::Histogram;

/// Metrics of one name, which differ in their labels.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricFamily {
    /// The name with its unit, without a suffix such as `_total`.
    pub name: &'static str,
    /// The unit, which is also the end of the name.
    pub unit: Option<Unit>,
    /// What it means, without a full stop.
    pub help: &'static str,
    /// How its values behave.
    pub kind: MetricKind,
    /// The values.
    pub points: Vec<Point>,
}

/// A base unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Of time.
    Seconds,
    /// Of data.
    Bytes,
    /// Of a part to a whole.
    Ratio,
    /// Of the power of a signal.
    Dbm,
}

impl Unit {
    /// The end of the name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
            Self::Ratio => "ratio",
            Self::Dbm => "dbm",
        }
    }

    /// The code of the unit (UCUM), for OTLP; empty where Prometheus would append it to a name that already ends with it.
    pub fn ucum_code(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Bytes => "By",
            Self::Ratio => "1",
            Self::Dbm => "",
        }
    }
}

/// How the values of a family behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// It only rises, from zero at the start.
    Counter,
    /// It rises and falls.
    Gauge,
    /// It counts values in classes.
    Histogram,
    /// Its labels are the information; its value is 1.
    Info,
}

/// A value with its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Names and values, from bounded sets.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: PointValue,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum PointValue {
    /// A count.
    Integer(u64),
    /// A measurement.
    Float(f64),
    /// Counts in classes.
    Histogram(Histogram),
}

impl From<u64> for PointValue {
    fn from(count: u64) -> Self {
        Self::Integer(count)
    }
}

impl From<bool> for PointValue {
    fn from(is_set: bool) -> Self {
        Self::Integer(u64::from(is_set))
    }
}

impl From<f64> for PointValue {
    fn from(measured: f64) -> Self {
        Self::Float(measured)
    }
}

impl From<&Histogram> for PointValue {
    fn from(histogram: &Histogram) -> Self {
        Self::Histogram(histogram.clone())
    }
}

impl MetricFamily {
    /// A family without values.
    pub fn new(kind: MetricKind, name: &'static str, help: &'static str) -> Self {
        let units = [Unit::Seconds, Unit::Bytes, Unit::Ratio, Unit::Dbm];
        let unit = units
            .into_iter()
            .find(|unit| name.strip_suffix(unit.name()).is_some_and(|measured| measured.ends_with('_')));
        Self { name, unit, help, kind, points: Vec::new() }
    }

    /// Adds a value without labels.
    #[must_use]
    pub fn with(self, value: impl Into<PointValue>) -> Self {
        self.with_point(Vec::new(), value)
    }

    /// Adds a value without labels, if it is known.
    #[must_use]
    pub fn with_known(self, value: Option<impl Into<PointValue>>) -> Self {
        match value {
            Some(value) => self.with(value),
            None => self,
        }
    }

    /// Adds a value for each name of one label.
    #[must_use]
    pub fn with_each<V: Into<PointValue>>(
        self,
        label: &'static str,
        values: impl IntoIterator<Item = (impl Into<String>, V)>,
    ) -> Self {
        let add = |family: Self, (name, value): (_, V)| family.with_point(vec![(label, name)], value);
        values.into_iter().map(|(name, value)| (name.into(), value)).fold(self, add)
    }

    /// Adds a value.
    #[must_use]
    pub fn with_point(mut self, labels: Vec<(&'static str, String)>, value: impl Into<PointValue>) -> Self {
        self.points.push(Point { labels, value: value.into() });
        self
    }
}
