//! Conditions of the server and the way to it.

use crate::clock::{millis, minute_text};
use crate::config::{Config, Telemetry};
use crate::model::Phase;
use crate::policy::alerts::durations::Durations;
use crate::policy::alerts::facts::AlertFacts;
use crate::policy::alerts::judgement::{AlertText, Judgement, Level};
use crate::policy::alerts::send_outcomes::{DenialPeriod, SENDS_MIN};
use crate::policy::breaker::Mode;

/// A success after a pause does not show yet that the server is well: the alert ends after this time without a further
/// pause, or once batches have their usual size again.
const BREAKER_END_DELAY_MS: u64 = 5 * 60 * 1000;

pub(super) fn judge_breaker(facts: &AlertFacts<'_>, durations: &Durations, alerts: &Telemetry) -> Judgement {
    let limit = millis(alerts.alert_breaker_open.0);
    if limit == 0 {
        return Judgement::CLEAR;
    }
    let Some(since) = durations.breaker_open else {
        let end_delay = if facts.breaker == Mode::Normal { 0 } else { BREAKER_END_DELAY_MS.min(limit) };
        return Judgement { end_delay, ..Judgement::CLEAR };
    };
    let text = || {
        AlertText::warning(
            format!(
                "the server has failed on every batch since {}: nothing is sent but a small batch as a test now and \
                 then; records are kept",
                minute_text(facts.now.to_wall_ms(since))
            ),
            "inform the operator of the server; to see its responses: fieldsync batches",
        )
    };
    let judgement = Judgement::lasting(facts.now.steady, since, limit, text);
    // It opened again before the alert ended.
    if judgement.level == Level::Clear {
        return Judgement { level: Level::Between, text: Some(text()), ..judgement };
    }
    judgement
}

pub(super) fn judge_ambiguity(facts: &AlertFacts<'_>, alerts: &Telemetry) -> Judgement {
    let (threshold, now) = (u64::from(alerts.alert_ambiguous_percent), facts.now.steady);
    let (sends, ambiguous) = facts.outcomes.counts(now);
    if threshold == 0 || ambiguous == 0 {
        return Judgement::CLEAR;
    }
    let percent = ambiguous * 100 / sends.max(1);
    let level = Level::of_varying(percent, threshold);
    let level = if sends < SENDS_MIN { level.min(Level::Between) } else { level };
    let judgement = Judgement::at(level, || {
        AlertText::warning(
            format!(
                "{ambiguous} of the last {sends} batches had no clear outcome (a 500, 502 or 504, or a lost response): each is \
                 looked up, so no record is lost or applied twice, but sending is slow"
            ),
            "to see which batches: fieldsync batches; if their durations are near server.request_timeout, raise the \
             gateway's time limit or lower batch.max_batch_records",
        )
    });
    // The share changes when old sends no longer count.
    Judgement { next_change: facts.outcomes.next_expiry(now), ..judgement }
}

/// A device without records to send has no reason for contact: only the time with waiting records counts. After a start, a
/// pause or a wait on purpose, the server first has the time of the longest back-off.
pub(super) fn judge_contact(facts: &AlertFacts<'_>, durations: &Durations, config: &Config) -> Judgement {
    let limit = millis(config.telemetry.alert_no_contact.0);
    let times = durations.waiting_since().zip(durations.contact_wanted).filter(|_| limit > 0);
    let Some((waiting_since, wanted_since)) = times else { return Judgement::CLEAR };
    let since = facts.contact.at.map_or(waiting_since, |at| at.max(waiting_since));
    let first_attempts = millis(config.retry.max_backoff.0).min(limit);
    let since = since.max(wanted_since.saturating_add(first_attempts).saturating_sub(limit));
    Judgement::lasting(facts.now.steady, since, limit, || {
        let last = match facts.contact.at {
            Some(at) => format!("the last response came at {}", minute_text(facts.now.to_wall_ms(at))),
            None => "no response is known".to_owned(),
        };
        AlertText::warning(
            format!("the server has not responded for a long time ({last}): {} kept", waiting_records(facts)),
            "check network and address of the server: sudo fieldsync doctor",
        )
    })
}

/// A denial of everything ends by itself if a portal is left behind: it is an alert if the longest wait between
/// attempts did not help.
pub(super) fn judge_denials(facts: &AlertFacts<'_>, durations: &Durations, config: &Config) -> Judgement {
    let (now, limit) = (facts.now.steady, millis(config.retry.max_backoff.0));
    if facts.backlog.to_go() == 0 {
        return Judgement::CLEAR;
    }
    if let Some(since) = durations.portal {
        return Judgement::lasting(now, since, limit, || describe_portal(facts, since));
    }
    if let Some(period) = facts.outcomes.denials {
        let level = Level::of_maximum(period.last - period.first, limit);
        return Judgement::at(level, || describe_denials(facts, period));
    }
    let Some(since) = durations.denied_batches else { return Judgement::CLEAR };
    Judgement::lasting(now, since, limit, || {
        AlertText::warning(
            format!(
                "{} denied since {} while others are accepted: the records stay in the queue, and the daemon searches \
                 for the cause among them",
                if facts.denied_batches == 1 { "a batch is" } else { "batches are" },
                minute_text(facts.now.to_wall_ms(since))
            ),
            "to see which: fieldsync status; if it does not end, ask the operator of the server why: fieldsync batches",
        )
    })
}

fn describe_portal(facts: &AlertFacts<'_>, since: u64) -> AlertText {
    AlertText::warning(
        format!(
            "a login page or another site has responded in place of the server since {}: nothing is sent; {} kept",
            minute_text(facts.now.to_wall_ms(since)),
            waiting_records(facts)
        ),
        "log in to the network, or use another one; to check: sudo fieldsync doctor",
    )
}

fn describe_denials(facts: &AlertFacts<'_>, period: DenialPeriod) -> AlertText {
    let [first, last] = [period.first, period.last].map(|at| minute_text(facts.now.to_wall_ms(at)));
    AlertText::critical(
        format!(
            "the server, or something before it, has denied every request from {first} to {last}: nothing is sent; {} \
             kept",
            waiting_records(facts)
        ),
        "check server.url, server.path and what the device is allowed to do: sudo fieldsync doctor",
    )
}

/// The planner knows whether the credential is refused for every batch, or one record is the reason. Without a link, it
/// does not show.
pub(super) fn judge_refused_credential(facts: &AlertFacts<'_>) -> Judgement {
    let level = match facts.phase {
        _ if facts.backlog.to_go() == 0 => Level::Clear,
        Phase::AuthRequired => Level::Beyond,
        Phase::Offline => Level::Between,
        _ => Level::Clear,
    };
    Judgement::at(level, || {
        AlertText::critical(
            format!(
                "the server does not accept the token or the certificate of this device, or they cannot be used: \
                 nothing is sent; {} kept",
                waiting_records(facts)
            ),
            "replace the token or the certificate; to see which and where: sudo fieldsync doctor",
        )
    })
}

/// With the verb that the record or the records share with what follows.
fn waiting_records(facts: &AlertFacts<'_>) -> String {
    match facts.backlog.to_go() {
        1 => "1 record waits and is".to_owned(),
        number => format!("{number} records wait and are"),
    }
}
