//! States of records, classes of failures and networks in words for people. Programs get the names of the API, and the
//! option `--state` takes both.

use std::borrow::Cow;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::format::strip_controls;
use crate::model::RecordState;

const STATES: [RecordState; 6] = [
    RecordState::Pending,
    RecordState::Syncing,
    RecordState::Synced,
    RecordState::Failed,
    RecordState::Quarantined,
    RecordState::Discarded,
];

/// As people read it.
pub(crate) fn state_word(state: RecordState) -> &'static str {
    match state {
        RecordState::Pending => "waiting",
        RecordState::Syncing => "sending",
        RecordState::Synced => "synced",
        RecordState::Failed => "failed",
        RecordState::Quarantined => "needs review",
        RecordState::Discarded => "discarded",
    }
}

/// In a sentence: `record … is waiting`, `record … needs review`
pub(crate) fn state_phrase(state: RecordState) -> String {
    match state_word(state) {
        word if word.starts_with("needs") => word.to_owned(),
        word => format!("is {word}"),
    }
}

/// The class of a response, of a failure or of a network: as the API names it, unless that name confuses people.
pub(crate) fn class_word(name: &str) -> Cow<'_, str> {
    match name {
        "throttled" => "server is busy".into(),
        "interfered" => "another site responded".into(),
        "isolated" => "no usable response".into(),
        "captive_portal" => "login page of a Wi-Fi".into(),
        name => strip_controls(name),
    }
}

/// The word without a space, which would have to be quoted in a shell.
fn option_value(state: RecordState) -> &'static str {
    match state {
        RecordState::Quarantined => "needs-review",
        state => state_word(state),
    }
}

/// Parses a state by its word or by its name in the API, in any case.
pub(crate) fn state_parser() -> impl TypedValueParser<Value = RecordState> {
    let values = STATES
        .map(|state| PossibleValue::new(option_value(state)).aliases([state.name(), state_word(state)]));
    PossibleValuesParser::new(values).try_map(|text| {
        let is_meant = |state: &RecordState| {
            [option_value(*state), state_word(*state), state.name()]
                .iter()
                .any(|name| name.eq_ignore_ascii_case(&text))
        };
        STATES.into_iter().find(is_meant).ok_or("it is not a state")
    })
}
