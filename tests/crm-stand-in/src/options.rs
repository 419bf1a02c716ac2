//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::faults::{FaultSettings, describe_faults, parse_rate_option};
use crate::state::{ParallelCreates, UnknownFields};

/// Plays a CRM for tests, as strictly as the real one, and reports at the end what its clients did.
#[derive(Clone, Debug, Parser)]
#[command(name = "fieldsync-crm-stand-in", version)]
pub(crate) struct StandInOptions {
    #[command(subcommand)]
    pub(crate) crm: CrmCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum CrmCommand {
    /// Zoho CRM, version 8 of its API.
    #[command(after_long_help = describe_faults())]
    Zoho(Box<ZohoOptions>),
    /// Salesforce, upserts of collections by external id.
    #[command(after_long_help = describe_faults())]
    Salesforce(Box<SalesforceOptions>),
}

/// What both CRMs have.
#[derive(Clone, Debug, Args)]
pub(crate) struct CommonOptions {
    /// Address to listen on; with port 0 the system chooses a port, which the line on standard output names.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,

    /// The address that the answer with a token names [default: the address of --listen].
    #[arg(long, value_name = "URL")]
    pub(crate) origin: Option<String>,

    /// TOML file with the modules and their fields, instead of the schema built in.
    #[arg(long, value_name = "FILE")]
    pub(crate) schema: Option<PathBuf>,

    /// Print the schema built in, and end.
    #[arg(long)]
    pub(crate) print_schema: bool,

    /// Seed of tokens and faults.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    #[arg(long, value_name = "ID", default_value = "stand-in-client")]
    pub(crate) client_id: String,

    #[arg(long, value_name = "SECRET", default_value = "stand-in-secret")]
    pub(crate) client_secret: String,

    /// How long an access token is valid.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    pub(crate) token_lifetime: Duration,

    /// Calls at a time; those above are refused.
    #[arg(long, value_name = "CALLS", default_value_t = 20)]
    pub(crate) concurrency: usize,

    /// Refusals for too many calls and 503 tell to wait so long; without it, they do not say how long.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) retry_after: Option<Duration>,

    /// Field with the key of a record: two records of one key in a call are a violation.
    #[arg(long, value_name = "FIELD")]
    pub(crate) key_field: Option<String>,

    /// Field with the order of the records of a key: applied out of order, they are counted.
    #[arg(long, value_name = "FIELD", requires = "key_field")]
    pub(crate) order_field: Option<String>,

    /// What becomes of two calls at a time that bring the same new unique value.
    #[arg(long, value_enum, default_value_t = ParallelCreates::Refuse)]
    pub(crate) parallel_creates: ParallelCreates,

    /// What a client may still do for so long after a 401 or a refusal for too many calls, without a violation.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
    pub(crate) reaction_time: Duration,

    #[command(flatten)]
    pub(crate) faults: FaultOptions,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Faults")]
pub(crate) struct FaultOptions {
    /// Answer 504 as HTML to calls that take longer, as a proxy in front; they are applied nevertheless.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    time_limit: Option<Duration>,

    /// What each call costs in time.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    call_cost: Duration,

    /// What each record costs in time.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    record_cost: Duration,

    /// When a call is applied, as a share of its time up to the time limit; above 1, it is applied after the 504.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    apply_share: f64,

    /// Transient refusals of a record go away after so many tries.
    #[arg(long, value_name = "TRIES", default_value_t = 2)]
    transient_tries: u32,

    /// A fault by its rate (`cut=0.05`) or for the next calls (`cut=next:3`); may be given several times.
    #[arg(long = "fault", value_name = "NAME=RATE", value_parser = parse_rate_option)]
    faults: Vec<(String, Value)>,

    /// Refuse whole calls with a code, by a rate or the next calls, as for --fault.
    #[arg(long = "refuse", value_name = "CODE=RATE", value_parser = parse_rate_option)]
    refusals: Vec<(String, Value)>,
}

impl FaultOptions {
    pub(crate) fn to_settings(&self) -> Result<FaultSettings, String> {
        let mut settings = FaultSettings::default();
        settings.time_limit = self.time_limit;
        settings.call_cost = self.call_cost;
        settings.record_cost = self.record_cost;
        settings.transient_tries = self.transient_tries;
        settings.change(&json!({ "apply_share": self.apply_share }))?;
        for (name, rate) in &self.faults {
            settings.change(&json!({ name.as_str(): rate }))?;
        }
        for (code, rate) in &self.refusals {
            settings.change(&json!({ "refuse": { code.as_str(): rate } }))?;
        }
        Ok(settings)
    }
}

/// The code of refusals for too many calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LimitCode {
    #[value(name = "TOO_MANY_REQUESTS")]
    TooManyRequests,
    #[value(name = "RATE_LIMIT_EXCEEDED")]
    RateLimitExceeded,
}

impl LimitCode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::TooManyRequests => "TOO_MANY_REQUESTS",
            Self::RateLimitExceeded => "RATE_LIMIT_EXCEEDED",
        }
    }
}

/// How a request that is wrong as a whole is refused with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RefusalShape {
    /// One error object.
    Top,
    /// An array `data` with one error.
    Data,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ZohoOptions {
    #[command(flatten)]
    pub(crate) common: CommonOptions,

    #[arg(long, value_name = "TOKEN", default_value = "stand-in-refresh")]
    pub(crate) refresh_token: String,

    /// What the refresh token is good for, separated by commas.
    #[arg(long, default_value = "ZohoCRM.modules.ALL")]
    pub(crate) scope: String,

    /// A module that the user may not write to.
    #[arg(long = "forbid", value_name = "MODULE")]
    pub(crate) forbidden_modules: Vec<String>,

    /// Records in a call.
    #[arg(long, value_name = "RECORDS", default_value_t = 100)]
    pub(crate) max_records: usize,

    /// Calls at a time with more than 10 records.
    #[arg(long, value_name = "CALLS", default_value_t = 10)]
    pub(crate) large_call_concurrency: usize,

    /// Access tokens that may be asked for in a window.
    #[arg(long, value_name = "TOKENS", default_value_t = 10)]
    pub(crate) token_requests: usize,

    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
    pub(crate) token_window: Duration,

    /// Access tokens that live at a time; with one more, the oldest dies.
    #[arg(long, value_name = "TOKENS", default_value_t = 15)]
    pub(crate) live_tokens: usize,

    /// Credits in a window; a call costs one for each 10 records.
    #[arg(long, default_value_t = 50_000)]
    pub(crate) credits: u64,

    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = humantime::parse_duration)]
    pub(crate) credit_window: Duration,

    #[arg(long, value_enum, default_value_t = LimitCode::TooManyRequests)]
    pub(crate) limit_code: LimitCode,

    #[arg(long, value_enum, default_value_t = RefusalShape::Top)]
    pub(crate) refusal_shape: RefusalShape,

    /// What becomes of fields that the module does not have.
    #[arg(long, value_enum, default_value_t = UnknownFields::Ignore)]
    pub(crate) unknown_fields: UnknownFields,
}

/// What is refused for a value of the wrong type, or for a field that the object does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FieldErrorScope {
    /// The record.
    Record,
    /// The whole call, with 400.
    Call,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct SalesforceOptions {
    #[command(flatten)]
    pub(crate) common: CommonOptions,

    /// Records in a call.
    #[arg(long, value_name = "RECORDS", default_value_t = 200)]
    pub(crate) max_records: usize,

    /// Calls in a window.
    #[arg(long, value_name = "CALLS", default_value_t = 100_000)]
    pub(crate) api_calls: u64,

    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = humantime::parse_duration)]
    pub(crate) api_window: Duration,

    #[arg(long, value_enum, default_value_t = FieldErrorScope::Record)]
    pub(crate) field_errors: FieldErrorScope,

    /// What becomes of fields that the object does not have.
    #[arg(long, value_enum, default_value_t = UnknownFields::Refuse)]
    pub(crate) unknown_fields: UnknownFields,
}
