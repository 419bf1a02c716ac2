//! How a destination is called, as TOML: the keys of a mapping file and of the presets.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::codes::CodeLists;
use super::pointer::JsonPointer;
use super::type_mapping::TypeMapping;
use crate::option_values::parse_duration;

const CALL_BYTES_DEFAULT: usize = 4 << 20;
const IN_FLIGHT_DEFAULT: usize = 4;
/// Calls at a time, at most: each may need a thread that looks up a name.
pub(crate) const CALLS_IN_FLIGHT_MAX: usize = 100;
const CALL_TIMEOUT_DEFAULT: Duration = Duration::from_mins(1);
const TOKEN_WINDOW_DEFAULT: Duration = Duration::from_mins(10);

/// Why a mapping cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MappingError {
    #[error("the mapping of the destination is not valid: {0}")]
    Syntax(String),
    #[error("the mapping of the destination is not valid: `{key}` {problem}")]
    Key { key: String, problem: String },
}

impl MappingError {
    pub(crate) fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Key { key: key.into(), problem: problem.into() }
    }
}

/// One destination over HTTP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpMapping {
    /// The address that `{api}` stands for, unless the response with a token names one.
    pub(crate) api: Option<String>,
    pub(crate) method: CallMethod,
    /// The address of a call, with `{api}`, `{module}` and `{id_field}`.
    pub(crate) url: String,
    /// Headers of each call.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// Most records in a call.
    pub(crate) max_records: usize,
    /// Most bytes in a call; a larger record is sent alone.
    #[serde(default = "default_call_bytes")]
    pub(crate) max_bytes: usize,
    /// A call is applied as a whole or not at all.
    #[serde(default)]
    pub(crate) atomic: bool,
    pub(crate) wrap: WrapMapping,
    #[serde(default)]
    pub(crate) record: RecordMapping,
    #[serde(default)]
    pub(crate) results: ResultsMapping,
    #[serde(default)]
    pub(crate) call_error: CallErrorMapping,
    pub(crate) codes: CodeLists,
    #[serde(default)]
    pub(crate) limits: LimitsMapping,
    pub(crate) auth: AuthMapping,
    #[serde(default, rename = "type")]
    pub(crate) types: Vec<TypeMapping>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum CallMethod {
    Post,
    Put,
    Patch,
}

/// What surrounds the records in the body of a call.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrapMapping {
    /// The name of the array with the records; empty if the body is the array.
    pub(crate) name: String,
    /// Members beside the array.
    #[serde(default)]
    pub(crate) constants: Map<String, Value>,
}

/// What a record looks like.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RecordMapping {
    /// The name of the object with the fields; empty if they are the record.
    pub(crate) fields: String,
    /// Whether the fields include the unique field with the record's id.
    pub(crate) key_in_body: bool,
    /// Members beside the fields, with `{module}`, `{id_field}` and `{id}`.
    pub(crate) constants: Map<String, Value>,
    /// Names that a payload must not use: they mean something to the destination.
    pub(crate) reserved: Vec<String>,
}

impl Default for RecordMapping {
    fn default() -> Self {
        Self { fields: String::new(), key_in_body: true, constants: Map::new(), reserved: Vec::new() }
    }
}

impl RecordMapping {
    /// Whether a payload must not use this name. Some destinations do not tell upper case from lower case.
    pub(crate) fn is_reserved(&self, name: &str) -> bool {
        let beside = self.constants.keys().filter(|_| self.fields.is_empty());
        beside.chain(&self.reserved).any(|reserved| reserved.eq_ignore_ascii_case(name))
    }
}

/// How results find their records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Correlation {
    /// The results are in the order of the records.
    #[default]
    Position,
    /// Each result names the id of its record.
    Field,
}

/// Where the results of the records are in a response.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ResultsMapping {
    /// The status codes whose body has results; without them, every 2xx.
    pub(crate) statuses: Vec<u16>,
    /// The array of results. Without it, a 2xx applies all records.
    pub(crate) path: Option<JsonPointer>,
    /// An array of results of refused records beside it.
    pub(crate) errors_path: Option<JsonPointer>,
    pub(crate) by: Correlation,
    /// With `by = "field"`: the record's id, in results of either array.
    pub(crate) record_id: Vec<JsonPointer>,
    pub(crate) ok: Option<OkRule>,
    /// The destination's id of the record.
    pub(crate) id: Option<JsonPointer>,
    /// What was done: a text, or a boolean that is true for an insert.
    pub(crate) action: Option<JsonPointer>,
    /// Where several errors of one record are; without them, the result itself is the error.
    #[serde(deserialize_with = "deserialize_pointers")]
    pub(crate) errors: Vec<JsonPointer>,
    pub(crate) code: Option<JsonPointer>,
    /// A word that tells errors of one code apart.
    pub(crate) qualifier: Option<JsonPointer>,
    pub(crate) message: Option<JsonPointer>,
    /// The destination's name of the field at fault.
    pub(crate) field: Vec<JsonPointer>,
    /// What else people need to know about an error.
    pub(crate) hints: Vec<JsonPointer>,
    pub(crate) index: Option<IndexRule>,
    pub(crate) duplicate: Option<DuplicateRule>,
}

/// Which results are those of applied records.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OkRule {
    pub(crate) path: JsonPointer,
    pub(crate) value: Value,
}

/// The path of a part of the request in an error, such as `$.data[3].Name`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IndexRule {
    pub(crate) paths: Vec<JsonPointer>,
    /// The array of the records, such as `$.data`. Errors elsewhere concern no record.
    pub(crate) root: String,
}

/// What an error about a unique value says of the record that has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DuplicateRule {
    pub(crate) field: Option<JsonPointer>,
    pub(crate) id: Option<JsonPointer>,
    /// A message with `{field}` and `{id}`, where no pointer leads to them.
    pub(crate) message: Option<String>,
}

/// Where the error of a whole call is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CallErrorMapping {
    /// The objects that may be the error; the first that exists is.
    pub(crate) paths: Vec<JsonPointer>,
    pub(crate) code: Option<JsonPointer>,
    pub(crate) message: Option<JsonPointer>,
}

/// How much the destination takes, and how it says so.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitsMapping {
    /// Calls at a time.
    pub(crate) max_in_flight: usize,
    /// Calls with at most so many records do not count against `max_large_in_flight`.
    pub(crate) small_call_records: Option<usize>,
    /// Larger calls at a time.
    pub(crate) max_large_in_flight: Option<usize>,
    #[serde(deserialize_with = "deserialize_duration")]
    pub(crate) call_timeout: Duration,
    /// In the error of a throttled call: the seconds to wait.
    pub(crate) retry_after: Option<JsonPointer>,
    /// In the error of a throttled call: how many calls at a time are allowed.
    pub(crate) announced: Option<JsonPointer>,
    /// The header with the credits that are left.
    pub(crate) credits_header: Option<String>,
    /// With fewer credits, only urgent records are handed over.
    pub(crate) credits_min: u64,
    /// When records are tried again that the destination cannot take for now.
    #[serde(deserialize_with = "deserialize_duration")]
    pub(crate) record_retry_after: Duration,
}

impl Default for LimitsMapping {
    fn default() -> Self {
        Self {
            max_in_flight: IN_FLIGHT_DEFAULT,
            small_call_records: None,
            max_large_in_flight: None,
            call_timeout: CALL_TIMEOUT_DEFAULT,
            retry_after: None,
            announced: None,
            credits_header: None,
            credits_min: 0,
            record_retry_after: Duration::from_mins(1),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AuthKind {
    /// A token from a file, which is read again when the destination refuses it.
    BearerFile,
    /// Access tokens for a refresh token.
    OauthRefresh,
    /// Access tokens for the client itself.
    ClientCredentials,
}

/// How calls are authorized.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuthMapping {
    pub(crate) kind: AuthKind,
    /// The word before the token.
    #[serde(default = "default_scheme")]
    pub(crate) scheme: String,
    /// The address that gives access tokens.
    pub(crate) token_url: Option<String>,
    #[serde(default)]
    pub(crate) credentials: CredentialSettings,
    /// In the response with a token: the address for calls.
    pub(crate) api_path: Option<JsonPointer>,
    /// Errors of the token endpoint that go away by themselves.
    #[serde(default)]
    pub(crate) busy_errors: Vec<String>,
    /// Access tokens that may be asked for in a window.
    pub(crate) max_token_requests: Option<usize>,
    #[serde(default = "default_token_window", deserialize_with = "deserialize_duration")]
    pub(crate) token_window: Duration,
}

/// Who the gateway is to the destination. Secrets are in files, and are read when they are needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CredentialSettings {
    pub(crate) client_id: Option<String>,
    pub(crate) client_secret_file: Option<PathBuf>,
    pub(crate) refresh_token_file: Option<PathBuf>,
    pub(crate) token_file: Option<PathBuf>,
}

fn default_call_bytes() -> usize {
    CALL_BYTES_DEFAULT
}

fn default_scheme() -> String {
    "Bearer".into()
}

fn default_token_window() -> Duration {
    TOKEN_WINDOW_DEFAULT
}

/// A pointer, or a list of them.
fn deserialize_pointers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<JsonPointer>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Pointers {
        One(JsonPointer),
        Several(Vec<JsonPointer>),
    }
    Ok(match Pointers::deserialize(deserializer)? {
        Pointers::One(pointer) => vec![pointer],
        Pointers::Several(pointers) => pointers,
    })
}

fn deserialize_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}
