//! Alerts: which conditions need attention, when each starts, and when it ends.
//!
//! | part | content |
//! |---|---|
//! | [`facts`] | what the alerts are judged from |
//! | [`judgement`] | how far a condition is, and the margin between start and end |
//! | `rules` | the conditions, their messages and remedies |
//! | `durations` | since when conditions last that are judged by their duration |
//! | [`send_outcomes`] | results of recent sends: ambiguous, denied, unauthorized |
//! | [`restarts`] | the starts of the last day |
//! | [`restored`] | the active alerts over a restart |
//!
//! An alert that started ends only when its value is clearly below the threshold (a tenth, half for shares and clock
//! offsets), or when its cause has been gone for some time. So a value beside the threshold does not start and end an
//! alert again and again. A threshold of zero turns an alert off, and ends it.
//!
//! Nothing here polls: [`AlertPolicy::update`] returns the next time at which only the passing of time changes
//! something. Due times are in steady milliseconds (decision 0007). Only the expiry of a credential is a date, so it is
//! judged by the wall clock.

mod durations;
pub mod facts;
pub mod judgement;
pub mod restarts;
pub mod restored;
mod rules;
pub mod send_outcomes;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::api::{Alert, AlertChange, AlertName};
use crate::config::Config;
use durations::Durations;
use facts::AlertFacts;
use judgement::{Judgement, Level};

/// The alerts that are active, and what is needed to judge the next facts.
#[derive(Clone, Debug, Default)]
pub struct AlertPolicy {
    active: BTreeMap<AlertName, ActiveAlert>,
    durations: Durations,
}

#[derive(Clone, Debug)]
struct ActiveAlert {
    alert: Alert,
    /// Since when the cause is gone, in steady milliseconds.
    cleared_at: Option<u64>,
    /// It was active when the previous run ended, and its cause was not found again yet.
    is_restored: bool,
    /// Its start is reported once it is found again.
    is_unreported: bool,
}

/// What an update changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertUpdate {
    /// Alerts that started, became more severe, or ended.
    pub changes: Vec<AlertChange>,
    /// When the next update is due if no fact changes, in steady milliseconds.
    pub next_due: Option<u64>,
}

impl AlertPolicy {
    /// Continues with the alerts that were active when the previous run saved its note.
    pub fn restore(note: &[u8]) -> Result<Self, serde_json::Error> {
        Ok(Self { active: restored::from_note(note)?, ..Self::default() })
    }

    /// Encodes the active alerts as a note. `unreported` are the changes that could not be handed over.
    pub fn to_note(&self, unreported: &[AlertChange]) -> Vec<u8> {
        restored::to_note(&self.active, unreported)
    }

    /// Judges new facts.
    pub fn update(&mut self, facts: &AlertFacts<'_>, config: &Config) -> AlertUpdate {
        self.durations.update(facts, !config.server.url.is_empty());
        let mut update = AlertUpdate::default();
        for &name in AlertName::ALL {
            let judgement = rules::judge(name, facts, &self.durations, config);
            self.apply(name, judgement, facts, config, &mut update);
        }
        // A time that has passed would make the caller spin.
        update.next_due = update.next_due.map(|due| due.max(facts.now.steady + 1));
        update
    }

    /// The active alerts, the most severe first.
    pub fn active_alerts(&self) -> Vec<Alert> {
        let mut alerts: Vec<Alert> = self.active.values().map(|active| active.alert.clone()).collect();
        alerts.sort_by(|one, other| other.severity.cmp(&one.severity));
        alerts
    }

    fn apply(
        &mut self,
        name: AlertName,
        judgement: Judgement,
        facts: &AlertFacts<'_>,
        config: &Config,
        update: &mut AlertUpdate,
    ) {
        let now = facts.now;
        let Judgement { level, text, next_change, end_delay, since } = judgement;
        update.add_due(next_change);
        let alert = text.map(|text| Alert {
            alert: name.into(),
            severity: text.severity.into(),
            message: text.message,
            remedy: text.remedy,
            since: since.unwrap_or(now.wall),
        });
        match (self.active.entry(name), level, alert) {
            (Entry::Vacant(entry), Level::Beyond, Some(alert)) => {
                update.changes.push(AlertChange { alert: alert.clone(), active: true });
                let (is_restored, is_unreported) = (false, false);
                entry.insert(ActiveAlert { alert, cleared_at: None, is_restored, is_unreported });
            }
            (Entry::Occupied(mut entry), Level::Beyond | Level::Between, Some(alert)) => {
                let active = entry.get_mut();
                (active.cleared_at, active.is_restored) = (None, false);
                let is_worse = alert.severity > active.alert.severity;
                // It stays as severe as it was: a value beside the threshold would be reported again and again.
                let severity = if is_worse { alert.severity } else { active.alert.severity.clone() };
                // A refused configuration is found again at each start.
                let first = active.alert.since;
                let since = since.map_or(first, |since| since.min(first));
                active.alert = Alert { severity, since, ..alert };
                if std::mem::take(&mut active.is_unreported) || is_worse {
                    update.changes.push(AlertChange { alert: active.alert.clone(), active: true });
                }
            }
            (Entry::Occupied(mut entry), Level::Clear, _) => {
                let active = entry.get_mut();
                let end_delay = if active.is_restored {
                    let holds = next_change.is_some();
                    end_delay.max(restored::end_delay(name, holds, facts, &config.telemetry))
                } else {
                    end_delay
                };
                let ends_at = active.cleared_at.get_or_insert(now.steady).saturating_add(end_delay);
                if now.steady >= ends_at {
                    update.changes.push(AlertChange { alert: entry.remove().alert, active: false });
                } else {
                    update.add_due(Some(ends_at).filter(|at| *at < u64::MAX));
                }
            }
            (Entry::Vacant(_), _, _) | (Entry::Occupied(_), _, None) => {}
        }
    }
}

impl AlertUpdate {
    fn add_due(&mut self, due: Option<u64>) {
        self.next_due = self.next_due.into_iter().chain(due).min();
    }
}
