//! Faults that the stand-in has on demand: by rate, or for the next calls.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

/// Transient refusals of a record go away after this many tries, unless the options say otherwise.
const TRANSIENT_TRIES_DEFAULT: u32 = 2;
/// At which share of its time a call is applied, unless the options say otherwise.
const APPLY_SHARE_DEFAULT: f64 = 0.5;

/// A fault, by the name that options and reports use.
pub(crate) type FaultName = &'static str;

/// Faults of a call, with what each of them does. The first that is drawn wins.
pub(crate) const CALL_FAULTS: [(FaultName, &str); 17] = [
    ("close-before", "the connection is closed without an answer, nothing is applied"),
    ("close-after", "the call is applied, and the connection is closed without an answer"),
    ("hang", "the call is applied, and the answer never comes"),
    ("cut", "the call is applied, and the connection breaks in the middle of the answer"),
    ("empty", "the call is applied, and the answer has no body"),
    ("gateway-timeout-before", "504 as HTML, nothing is applied"),
    ("gateway-timeout", "504 as HTML, the call is applied"),
    ("server-error", "500 as JSON, nothing is applied"),
    ("server-error-after", "500 as JSON, the call is applied"),
    ("unavailable", "503 as JSON, nothing is applied"),
    ("throttle", "the refusal of too many calls, nothing is applied"),
    ("html-200", "200 with an HTML page, nothing is applied"),
    ("html-500", "500 with an HTML page, nothing is applied"),
    ("too-few", "the call is applied, and the last result is missing"),
    ("too-many", "the call is applied, and the last result comes twice"),
    ("reordered", "the call is applied, and the results come in reverse order"),
    ("id-twice", "the call is applied, and two results have the id of the same record"),
];

pub(crate) const SLOW_TOKEN: FaultName = "token-slow";
/// How long a slow token endpoint takes.
pub(crate) const TOKEN_DELAY: Duration = Duration::from_secs(1);
/// Faults of the token endpoint.
pub(crate) const TOKEN_FAULTS: [(FaultName, &str); 4] = [
    ("token-denied", "the token endpoint refuses as if the limit of requests were reached"),
    ("token-error", "the token endpoint answers 500 with an HTML page"),
    ("token-hang", "the token endpoint never answers"),
    (SLOW_TOKEN, "the token endpoint answers after a second"),
];

/// The fault before a call is even looked at.
pub(crate) const EXPIRE_TOKENS: (FaultName, &str) =
    ("expire-tokens", "all access tokens become invalid before the call");

/// The fault of single records: a transient code, which goes away after some tries.
pub(crate) const LOCK_RECORDS: (FaultName, &str) =
    ("lock-records", "a record gets a transient code for --transient-tries tries");

/// How often a fault happens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct FaultRate {
    /// 0.0 to 1.0.
    share: f64,
    /// The next so many times for certain.
    next: u32,
}

impl FaultRate {
    fn draw(&mut self, rng: &mut Rng) -> bool {
        if self.next > 0 {
            self.next -= 1;
            return true;
        }
        self.share > 0.0 && rng.f64() < self.share
    }

    fn parse_value(value: &Value) -> Result<Self, String> {
        if let Some(share) = value.as_f64() {
            return if (0.0..=1.0).contains(&share) {
                Ok(Self { share, next: 0 })
            } else {
                Err("a rate must lie between 0.0 and 1.0".into())
            };
        }
        let next = value.get("next").and_then(Value::as_u64).and_then(|next| u32::try_from(next).ok());
        next.map(|next| Self { share: 0.0, next }).ok_or_else(|| "must be a rate or {\"next\": N}".into())
    }

    fn to_value(self) -> Value {
        if self.next > 0 { json!({ "next": self.next }) } else { json!(self.share) }
    }
}

/// All faults that are set, and how long calls take.
#[derive(Clone, Debug)]
pub(crate) struct FaultSettings {
    rates: BTreeMap<FaultName, FaultRate>,
    /// Refusals of whole calls, by code.
    refusals: BTreeMap<String, FaultRate>,
    pub(crate) time_limit: Option<Duration>,
    pub(crate) call_cost: Duration,
    pub(crate) record_cost: Duration,
    pub(crate) apply_share: f64,
    pub(crate) transient_tries: u32,
}

impl Default for FaultSettings {
    fn default() -> Self {
        Self {
            rates: BTreeMap::new(),
            refusals: BTreeMap::new(),
            time_limit: None,
            call_cost: Duration::ZERO,
            record_cost: Duration::ZERO,
            apply_share: APPLY_SHARE_DEFAULT,
            transient_tries: TRANSIENT_TRIES_DEFAULT,
        }
    }
}

/// When a call is applied, and when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallPace {
    pub(crate) until_applied: Duration,
    pub(crate) until_done: Duration,
    pub(crate) time_limit: Option<Duration>,
}

impl FaultSettings {
    pub(crate) fn draw_call_fault(&mut self, rng: &mut Rng) -> Option<FaultName> {
        self.draw_first(CALL_FAULTS.map(|(name, _)| name).as_slice(), rng)
    }

    pub(crate) fn draw_token_fault(&mut self, rng: &mut Rng) -> Option<FaultName> {
        self.draw_first(TOKEN_FAULTS.map(|(name, _)| name).as_slice(), rng)
    }

    pub(crate) fn draw_token_expiry(&mut self, rng: &mut Rng) -> bool {
        self.draw_first(&[EXPIRE_TOKENS.0], rng).is_some()
    }

    pub(crate) fn draw_record_lock(&mut self, rng: &mut Rng) -> bool {
        self.draw_first(&[LOCK_RECORDS.0], rng).is_some()
    }

    /// The code that the whole call is to be refused with.
    pub(crate) fn draw_refusal(&mut self, rng: &mut Rng) -> Option<String> {
        self.refusals.iter_mut().find_map(|(code, rate)| rate.draw(rng).then(|| code.clone()))
    }

    fn draw_first(&mut self, names: &[FaultName], rng: &mut Rng) -> Option<FaultName> {
        names.iter().copied().find(|name| self.rates.get_mut(name).is_some_and(|rate| rate.draw(rng)))
    }

    /// How long a call with so many records takes.
    pub(crate) fn pace_call(&self, records: usize) -> CallPace {
        let records = u32::try_from(records).unwrap_or(u32::MAX);
        let until_done = self.call_cost.saturating_add(self.record_cost.saturating_mul(records));
        let visible = self.time_limit.map_or(until_done, |limit| limit.min(until_done));
        let until_applied =
            Duration::try_from_secs_f64(visible.as_secs_f64() * self.apply_share).unwrap_or(until_done);
        CallPace { until_applied: until_applied.min(until_done), until_done, time_limit: self.time_limit }
    }

    /// Changes the settings that a JSON object names.
    pub(crate) fn change(&mut self, changes: &Value) -> Result<(), String> {
        let mut after = self.clone();
        let changes = changes.as_object().ok_or("must be a JSON object")?;
        for (name, value) in changes {
            after.change_one(name, value).map_err(|error| format!("{name}: {error}"))?;
        }
        *self = after;
        Ok(())
    }

    fn change_one(&mut self, name: &str, value: &Value) -> Result<(), String> {
        match name {
            "time_limit" if value.is_null() => self.time_limit = None,
            "time_limit" => self.time_limit = Some(parse_duration_value(value)?),
            "call_cost" => self.call_cost = parse_duration_value(value)?,
            "record_cost" => self.record_cost = parse_duration_value(value)?,
            "apply_share" => {
                let share = value.as_f64().filter(|share| *share >= 0.0 && share.is_finite());
                self.apply_share = share.ok_or("must be a number of 0.0 or more")?;
            }
            "transient_tries" => {
                let tries = value.as_u64().and_then(|tries| u32::try_from(tries).ok());
                self.transient_tries = tries.ok_or("must be a number of tries")?;
            }
            "refuse" => {
                for (code, rate) in value.as_object().ok_or("must be an object of codes")? {
                    self.refusals.insert(code.clone(), FaultRate::parse_value(rate)?);
                }
            }
            _ => {
                let name = find_fault(name).ok_or("is not a fault")?;
                self.rates.insert(name, FaultRate::parse_value(value)?);
            }
        }
        Ok(())
    }

    /// Removes all faults; how long calls take stays.
    pub(crate) fn clear(&mut self) {
        self.rates.clear();
        self.refusals.clear();
    }

    pub(crate) fn to_json(&self) -> Value {
        let seconds = |time: Duration| humantime::format_duration(time).to_string();
        let mut settings = json!({
            "time_limit": self.time_limit.map(seconds),
            "call_cost": seconds(self.call_cost),
            "record_cost": seconds(self.record_cost),
            "apply_share": self.apply_share,
            "transient_tries": self.transient_tries,
        });
        for (name, rate) in &self.rates {
            settings[*name] = rate.to_value();
        }
        for (code, rate) in &self.refusals {
            settings["refuse"][code.as_str()] = rate.to_value();
        }
        settings
    }
}

/// Every fault, with what it does.
fn all_faults() -> impl Iterator<Item = (FaultName, &'static str)> {
    CALL_FAULTS.into_iter().chain(TOKEN_FAULTS).chain([EXPIRE_TOKENS, LOCK_RECORDS])
}

fn find_fault(name: &str) -> Option<FaultName> {
    all_faults().map(|(known, _)| known).find(|known| *known == name)
}

/// The faults by name, for the help.
pub(crate) fn describe_faults() -> String {
    let lines: Vec<String> = all_faults().map(|(name, effect)| format!("  {name:<23} {effect}")).collect();
    format!("Names for --fault:\n{}", lines.join("\n"))
}

fn parse_duration_value(value: &Value) -> Result<Duration, String> {
    let text = value.as_str().ok_or("must be a text such as \"1500ms\"")?;
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

/// An option `NAME=RATE` or `NAME=next:N`, as a change of the settings.
pub(crate) fn parse_rate_option(text: &str) -> Result<(String, Value), String> {
    let (name, rate) = text.split_once('=').ok_or("must be NAME=RATE or NAME=next:N")?;
    let rate = match rate.strip_prefix("next:") {
        Some(next) => json!({ "next": next.parse::<u32>().map_err(|error| error.to_string())? }),
        None => json!(rate.parse::<f64>().map_err(|error| error.to_string())?),
    };
    FaultRate::parse_value(&rate)?;
    Ok((name.to_owned(), rate))
}
