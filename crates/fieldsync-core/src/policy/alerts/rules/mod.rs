//! The conditions that are alerts: when each holds, what it means for the records, and what to do.

mod device;
mod queue;
mod server;

use super::durations::Durations;
use super::facts::AlertFacts;
use super::judgement::Judgement;
use crate::api::AlertName;
use crate::config::Config;

/// Judges one condition.
pub(super) fn judge(
    name: AlertName,
    facts: &AlertFacts<'_>,
    durations: &Durations,
    config: &Config,
) -> Judgement {
    let alerts = &config.telemetry;
    match name {
        AlertName::StoreDamaged => queue::judge_damage(facts),
        AlertName::DiskFull => queue::judge_full_disk(facts),
        AlertName::DiskFailing => queue::judge_failing_disk(facts),
        AlertName::DiskLow => queue::judge_disk_space(facts, alerts),
        AlertName::NeedsReview => queue::judge_reviews(facts, alerts),
        AlertName::QueueFilling => queue::judge_fill(facts, alerts),
        AlertName::RecordsWait => queue::judge_wait(facts, durations, alerts),
        AlertName::BreakerOpen => server::judge_breaker(facts, durations, alerts),
        AlertName::AmbiguousAnswers => server::judge_ambiguity(facts, alerts),
        AlertName::NoContact => server::judge_contact(facts, durations, config),
        AlertName::SendingDenied => server::judge_denials(facts, durations, config),
        AlertName::CredentialRefused => server::judge_refused_credential(facts),
        AlertName::CredentialExpires => device::judge_expiry(facts, config),
        AlertName::TokenInClear => device::judge_clear_token(facts),
        AlertName::ConfigurationRefused => device::judge_refused_config(facts),
        AlertName::ClockOffset => device::judge_clock(facts, alerts),
        AlertName::Restarts => device::judge_restarts(facts, alerts),
    }
}
