//! Which code of the destination means what.

use std::collections::HashMap;

use serde::Deserialize;

/// What a code means, from the mildest to the gravest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CodeClass {
    /// Another record has a unique value. If it is this record's own id, an earlier call stored it.
    Duplicate,
    /// The outcome is unknown.
    Unclear,
    /// The record may be taken later.
    Retry,
    /// Too many calls.
    Throttled,
    /// The token is not valid, or no longer.
    Unauthorized,
    /// The call has too many records.
    TooLarge,
    /// The record is at fault.
    Rejected,
    /// Neither a record nor a call is at fault: an operator has to act.
    ///
    /// It outweighs a rejection. Without a permission, a destination does not see fields either, and finds them
    /// missing: what it says against the record then is not believed.
    Stop,
}

/// What a code that is in no list means for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OtherCodes {
    Rejected,
    Retry,
}

/// The codes by their class, as a mapping lists them. `CODE:WORD` is a code with a qualifier.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CodeLists {
    #[serde(default)]
    applied: Vec<String>,
    #[serde(default)]
    rejected: Vec<String>,
    #[serde(default)]
    retry: Vec<String>,
    #[serde(default)]
    stop: Vec<String>,
    #[serde(default)]
    throttled: Vec<String>,
    #[serde(default)]
    unauthorized: Vec<String>,
    #[serde(default)]
    too_large: Vec<String>,
    #[serde(default)]
    unclear: Vec<String>,
    /// All others.
    pub(crate) other: OtherCodes,
}

impl CodeLists {
    /// The lists by their key.
    fn lists(&self) -> [(&'static str, CodeClass, &[String]); 8] {
        [
            ("applied", CodeClass::Duplicate, &self.applied),
            ("rejected", CodeClass::Rejected, &self.rejected),
            ("retry", CodeClass::Retry, &self.retry),
            ("stop", CodeClass::Stop, &self.stop),
            ("throttled", CodeClass::Throttled, &self.throttled),
            ("unauthorized", CodeClass::Unauthorized, &self.unauthorized),
            ("too_large", CodeClass::TooLarge, &self.too_large),
            ("unclear", CodeClass::Unclear, &self.unclear),
        ]
    }

    /// The code that is in two lists, and the two.
    pub(crate) fn find_conflict(&self) -> Option<(&str, &'static str, &'static str)> {
        let mut seen: HashMap<&str, &'static str> = HashMap::new();
        self.lists().into_iter().find_map(|(key, _, codes)| {
            codes.iter().find_map(|code| seen.insert(code, key).map(|first| (code.as_str(), first, key)))
        })
    }
}

/// The classes by code.
#[derive(Clone, Debug)]
pub(crate) struct CodeTable {
    classes: HashMap<String, CodeClass>,
    other: CodeClass,
}

impl CodeTable {
    pub(crate) fn new(lists: &CodeLists) -> Self {
        let classes = lists
            .lists()
            .into_iter()
            .flat_map(|(_, class, codes)| codes.iter().map(move |code| (code.clone(), class)));
        let other = match lists.other {
            OtherCodes::Rejected => CodeClass::Rejected,
            OtherCodes::Retry => CodeClass::Retry,
        };
        Self { classes: classes.collect(), other }
    }

    /// The class of a code. `None` if it is in no list.
    pub(crate) fn find(&self, code: &str, qualifier: Option<&str>) -> Option<CodeClass> {
        let specific = qualifier.and_then(|word| self.classes.get(&format!("{code}:{word}")));
        specific.or_else(|| self.classes.get(code)).copied()
    }

    /// The class of a code of a record.
    pub(crate) fn classify(&self, code: &str, qualifier: Option<&str>) -> CodeClass {
        self.find(code, qualifier).unwrap_or(self.other)
    }

    pub(crate) fn other(&self) -> CodeClass {
        self.other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qualified_code_comes_before_the_plain_one_and_unknown_ones_are_others() {
        let lists: CodeLists = toml::from_str(
            "retry = ['SERVICE', 'LOCKED']\nstop = ['SERVICE:PERMISSION']\nother = 'rejected'",
        )
        .unwrap();
        let table = CodeTable::new(&lists);
        assert_eq!(table.classify("SERVICE", Some("PERMISSION")), CodeClass::Stop);
        assert_eq!(table.classify("SERVICE", Some("BUSY")), CodeClass::Retry);
        assert_eq!(table.classify("NEVER_SEEN", None), CodeClass::Rejected);
        assert_eq!(table.find("NEVER_SEEN", None), None);
        assert_eq!(lists.find_conflict(), None);
    }

    #[test]
    fn a_code_in_two_lists_is_found() {
        let lists: CodeLists = toml::from_str("retry = ['A']\nstop = ['B', 'A']\nother = 'retry'").unwrap();
        assert_eq!(lists.find_conflict(), Some(("A", "retry", "stop")));
    }
}
