//! Conditions of the device: its credentials, configuration, clock, and restarts.

use crate::api::AlertSeverity;
use crate::clock::{millis, minute_text};
use crate::config::{Config, Telemetry};
use crate::policy::alerts::facts::{AlertFacts, Validity};
use crate::policy::alerts::judgement::{AlertText, Judgement, Level};
use crate::policy::alerts::restarts::ORDERLY_STARTS_FACTOR;

/// Programs renew a short-lived credential in the last third or fifth of its life: a warning is due only in the last tenth.
const LIFETIME_DIVISOR: u64 = 10;
/// `Date` has no fractions of a second, and the response was on its way.
const DATE_PRECISION_MS: u64 = 1000;

pub(super) fn judge_expiry(facts: &AlertFacts<'_>, config: &Config) -> Judgement {
    let notice = millis(config.telemetry.alert_credential_expiry.0);
    if notice == 0 {
        return Judgement::CLEAR;
    }
    let named = [("the token", facts.expiry.token), ("the client certificate", facts.expiry.certificate)];
    let known = named.into_iter().filter_map(|(name, validity)| Some((name, validity?)));
    let mut judgements = known.map(|(name, validity)| judge_validity(name, validity, notice, facts));
    let first = judgements.next().unwrap_or(Judgement::CLEAR);
    judgements.fold(first, |first, second| {
        let next_change = first.next_change.into_iter().chain(second.next_change).min();
        let severity = |judgement: &Judgement| judgement.text.as_ref().map(|text| text.severity);
        let is_worse = (second.level, severity(&second)) > (first.level, severity(&first));
        Judgement { next_change, ..if is_worse { second } else { first } }
    })
}

fn judge_validity(name: &str, validity: Validity, notice: u64, facts: &AlertFacts<'_>) -> Judgement {
    let Validity { begins, ends } = validity;
    let now = facts.now.wall;
    let lifetime = begins.map_or(u64::MAX, |begins| ends.saturating_sub(begins));
    let warn_at = ends.saturating_sub(notice.min(lifetime / LIFETIME_DIVISOR));
    let next = [warn_at, ends].into_iter().find(|at| *at > now);
    let judgement = Judgement::when(now >= warn_at, || {
        let (until, is_expired) = (minute_text(ends), now >= ends);
        let message = if is_expired {
            format!(
                "{name} of this device expired at {until}: the server does not accept it; records are kept"
            )
        } else {
            format!(
                "{name} of this device expires at {until}: after that, nothing is sent until it is renewed"
            )
        };
        let severity = if is_expired { AlertSeverity::Critical } else { AlertSeverity::Warning };
        let remedy = "have it renewed and replace its file, which is used at once; to see which: sudo fieldsync doctor";
        AlertText { severity, message, remedy: remedy.into() }
    });
    Judgement { next_change: next.map(|at| facts.now.steady.saturating_add(at - now)), ..judgement }
}

pub(super) fn judge_clear_token(facts: &AlertFacts<'_>) -> Judgement {
    Judgement::when(facts.is_token_in_clear, || {
        AlertText::warning(
            "server.url begins with http://: the token and all records are sent unencrypted, and everyone on the way \
             to the server can read them and use the token",
            "use https:// in server.url where the server has it, then: sudo systemctl reload fieldsync",
        )
    })
}

pub(super) fn judge_refused_config(facts: &AlertFacts<'_>) -> Judgement {
    let Some(refusal) = facts.refusal else { return Judgement::CLEAR };
    let judgement = Judgement::when(true, || {
        AlertText::warning(
            format!("the configuration is refused, and the last good one is in use: {}", refusal.message),
            "correct it, then: sudo systemctl reload fieldsync",
        )
    });
    Judgement { since: Some(refusal.at), ..judgement }
}

pub(super) fn judge_clock(facts: &AlertFacts<'_>, alerts: &Telemetry) -> Judgement {
    let threshold = millis(alerts.alert_clock_offset.0);
    let Some(reading) = facts.contact.clock.filter(|_| threshold > 0) else { return Judgement::CLEAR };
    // The server's clock went on since its response.
    let server = reading.server.saturating_add(facts.now.steady.saturating_sub(reading.at));
    let offset = facts.now.wall.abs_diff(server).saturating_sub(DATE_PRECISION_MS);
    Judgement::at(Level::of_varying(offset, threshold), || {
        let direction = if facts.now.wall < server { "behind" } else { "ahead of" };
        AlertText::warning(
            format!(
                "the clock of this device is {} s {direction} the server's: the times of new records are wrong by as \
                 much, and certificates may be refused",
                offset / 1000
            ),
            "set the clock: sudo timedatectl set-ntp true; if it is right, inform the operator of the server",
        )
    })
}

pub(super) fn judge_restarts(facts: &AlertFacts<'_>, alerts: &Telemetry) -> Judgement {
    let (threshold, now) = (u64::from(alerts.alert_restarts), facts.now.steady);
    if threshold == 0 {
        return Judgement::CLEAR;
    }
    let (all, unexpected) = facts.starts.counts(now);
    let level = Level::of_maximum(unexpected, threshold)
        .max(Level::of_maximum(all, threshold.saturating_mul(ORDERLY_STARTS_FACTOR)));
    let judgement = Judgement::at(level, || {
        AlertText::warning(
            format!(
                "the daemon restarted {all} times within a day, {unexpected} of them after a crash or a kill: \
                 accepted records are on disk, but each restart delays them"
            ),
            "to see why: sudo journalctl -u fieldsync -p warning --since=-1day",
        )
    });
    // The passing of time starts nothing here.
    Judgement { next_change: facts.starts.next_expiry(now).filter(|_| level > Level::Clear), ..judgement }
}
