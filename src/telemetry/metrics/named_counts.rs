//! Counts by name. The names are fixed, so that a label has a bounded number of values.

/// For a name that this version does not know.
const OTHER_NAME: &str = "other";

/// A count for each of some names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedCounts(Vec<(String, u64)>);

impl NamedCounts {
    /// All names begin with zero, so that the first event is seen as an increase.
    pub(super) fn new(names: impl IntoIterator<Item = impl ToString>) -> Self {
        Self(names.into_iter().map(|name| (name.to_string(), 0)).collect())
    }

    pub(super) fn add(&mut self, name: &str) {
        let known = self.0.iter().any(|(known, _)| known == name);
        let name = if known { name } else { OTHER_NAME };
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, count)) => *count += 1,
            None => self.0.push((name.to_owned(), 1)),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, count)| (name.as_str(), *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_not_known_are_counted_together() {
        let mut counts = NamedCounts::new(["a", "b"]);
        for name in ["a", "c", "d", "a"] {
            counts.add(name);
        }
        assert_eq!(counts.iter().collect::<Vec<_>>(), [("a", 2), ("b", 0), ("other", 2)]);
    }
}
