//! One call, from its start until each of its records has a verdict.
//!
//! A call whose outcome is unknown is sent again as it is: it stores nothing twice. If that happens repeatedly, it is
//! halved, because one record may be the cause, or the destination's own time limit.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{sleep, timeout};

use super::auth::Authorization;
use super::call_parts::{CallPart, PartOutcome};
use super::decode::{CallTrouble, DecodedCall};
use super::delivery_state::DeliveryState;
use super::encode::{EncodedRecord, encode_body, encode_url};
use super::endpoint::HttpEndpoint;
use super::plan::PlannedCall;
use super::stops::{Denial, PROBE_INTERVAL};
use super::stored_ids::AppliedRecord;
use super::throttle::GatePermit;
use crate::destination::delivery::{
    DESTINATION_BUSY, DESTINATION_STOPPED, DESTINATION_UNCLEAR, RecordVerdict, Verdict,
};
use crate::model::RecordId;
use crate::policy::backoff::backoff_delay;
use crate::validated_batch::ValidatedRecord;

/// The waits before a call is sent again whose outcome is unknown.
const UNCLEAR_DELAY_RANGE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// A call whose outcome was unknown so often is halved.
const TRIES_BEFORE_SPLIT: u32 = 2;
/// No call is started with less time than this.
const CALL_TIME_MIN: Duration = Duration::from_millis(50);
/// A call is slow if it takes longer than one part in so many of the time limit.
const SLOW_CALL_SHARE: u32 = 4;
/// Code of a record that is too large on its own.
const TOO_LARGE: &str = "TOO_LARGE";

/// The calls of one delivery.
#[derive(Clone, Copy)]
pub(super) struct CallRun<'a> {
    pub(super) endpoint: &'a HttpEndpoint,
    pub(super) records: &'a [&'a ValidatedRecord],
    pub(super) prepared: &'a [Result<(usize, EncodedRecord), Verdict>],
    pub(super) state: &'a DeliveryState,
}

/// What follows from an attempt.
enum NextStep {
    /// One verdict for each record, in their order.
    Settle(Vec<Verdict>),
    /// As [`Self::Settle`], but it is not certain whose verdicts they are.
    Confirm(Vec<Verdict>),
    /// The same verdict for all.
    SettleAll(Verdict),
    /// The same call once more, after this wait.
    Repeat(Duration),
    /// Two calls with half of the records each, after this wait.
    Split(Duration),
    /// The same call once more, after all others.
    PutBack,
}

async fn pause(time: Duration) {
    // Even an empty sleep waits for the next tick of the timer.
    if !time.is_zero() {
        sleep(time).await;
    }
}

/// All records are tried again later.
fn settle_later(after: Option<Duration>, code: &str, reason: impl Into<String>) -> NextStep {
    NextStep::SettleAll(Verdict::retry(after, code, reason))
}

/// No time is left to send the part, for this reason. What an earlier attempt left unknown stays unknown.
fn settle_out_of_time(part: &CallPart, reason: &str) -> NextStep {
    match &part.unknown_reason {
        Some(unknown) => settle_later(None, DESTINATION_UNCLEAR, unknown),
        None => settle_later(None, DESTINATION_BUSY, reason),
    }
}

impl CallRun<'_> {
    /// Runs the calls at the same time, as far as the gate lets them.
    pub(super) async fn run_calls(self, calls: Vec<PlannedCall>) {
        let mut running: FuturesUnordered<_> = calls.into_iter().map(|call| self.run_call(call)).collect();
        while running.next().await.is_some() {}
    }

    async fn run_call(self, call: PlannedCall) {
        let type_index = call.type_index;
        let mut parts = vec![CallPart::new(call.positions)];
        while let Some(mut part) = parts.pop() {
            let outcome = match self.attempt(type_index, &mut part, parts.is_empty()).await {
                NextStep::Settle(verdicts) => part.settle(verdicts),
                NextStep::Confirm(verdicts) => part.confirm(verdicts),
                NextStep::SettleAll(verdict) => part.settle_all(&verdict),
                NextStep::Repeat(wait) => {
                    pause(wait).await;
                    PartOutcome { parts: vec![part], ..PartOutcome::default() }
                }
                NextStep::Split(wait) => {
                    pause(wait).await;
                    PartOutcome { parts: part.split(), ..PartOutcome::default() }
                }
                NextStep::PutBack => {
                    part.was_put_back = true;
                    parts.insert(0, part);
                    PartOutcome::default()
                }
            };
            let mut settled = outcome.settled;
            self.withdraw_merged(type_index, &mut settled);
            self.state.settle(settled).await;
            parts.extend(outcome.parts);
        }
    }

    /// A record that the destination merged with another is not applied: its fields replaced those of the other.
    fn withdraw_merged(&self, type_index: usize, settled: &mut [RecordVerdict]) {
        let Some(record_type) = self.endpoint.mapping.types.get(type_index) else { return };
        let find_applied = |(at, settled): (usize, &RecordVerdict)| {
            let Verdict::Applied(receipt) = &settled.verdict else { return None };
            let record = self.records.get(settled.position)?.id;
            Some(AppliedRecord { at, record, stored_id: receipt.destination_id()?.into() })
        };
        let applied: Vec<_> = settled.iter().enumerate().filter_map(find_applied).collect();
        let merged = self.endpoint.stored_ids.note_applied(type_index, applied);
        if merged.is_empty() {
            return;
        }
        let field = &record_type.id_field;
        let reason = format!("the destination stored two records as one: check that {field} is unique there");
        for at in merged {
            if let Some(settled) = settled.get_mut(at) {
                let record = self.records.get(settled.position).map(|record| record.id.to_string());
                tracing::error!(record_type = record_type.name, record, reason, "a record is not applied");
                settled.verdict = Verdict::retry(Some(PROBE_INTERVAL), DESTINATION_STOPPED, reason.clone());
            }
        }
        self.stop_type(type_index, &reason);
    }

    fn time_left(&self) -> Duration {
        self.state.ends.saturating_sub(self.endpoint.clock.now())
    }

    /// Repeats after `wait` if time is left then; else the records are tried again later.
    fn repeat_or(&self, wait: Duration, otherwise: Verdict) -> NextStep {
        if wait < self.time_left() { NextStep::Repeat(wait) } else { NextStep::SettleAll(otherwise) }
    }

    /// Waits until the call may be sent, and with which token; or says what follows if it may not.
    async fn prepare_call(
        &self,
        type_index: usize,
        part: &CallPart,
    ) -> Result<(GatePermit<'_>, Authorization), NextStep> {
        let endpoint = self.endpoint;
        if let Some(stop) = endpoint.stops.find_active(type_index, endpoint.clock.now()) {
            return Err(settle_later(Some(stop.wait), DESTINATION_STOPPED, stop.reason));
        }
        if self.time_left() < CALL_TIME_MIN {
            return Err(settle_out_of_time(part, "other calls took all of the time"));
        }
        let entering = endpoint.gate.enter(part.positions.len());
        let permit = match timeout(self.time_left(), entering).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(trouble)) => {
                let later = Verdict::retry(Some(trouble.wait), DESTINATION_BUSY, trouble.reason);
                return Err(self.repeat_or(trouble.wait, later));
            }
            Err(_) => return Err(settle_out_of_time(part, "other calls took all of the time")),
        };
        match timeout(self.time_left(), endpoint.auth.authorize()).await {
            Ok(Ok(authorization)) => Ok((permit, authorization)),
            Ok(Err(trouble)) if trouble.is_stop => {
                Err(settle_later(Some(trouble.wait), DESTINATION_STOPPED, trouble.reason))
            }
            Ok(Err(trouble)) => {
                let later = Verdict::retry(Some(trouble.wait), DESTINATION_BUSY, trouble.reason);
                Err(self.repeat_or(trouble.wait, later))
            }
            Err(_) => Err(settle_out_of_time(part, "no token was obtained in time")),
        }
    }

    async fn attempt(&self, type_index: usize, part: &mut CallPart, is_last: bool) -> NextStep {
        let endpoint = self.endpoint;
        let Some(record_type) = endpoint.mapping.types.get(type_index) else {
            return settle_later(None, DESTINATION_STOPPED, "the record type has no mapping");
        };
        let (permit, authorization) = match self.prepare_call(type_index, part).await {
            Ok(prepared) => prepared,
            Err(step) => return step,
        };
        let api = authorization.api.as_deref().or(endpoint.mapping.api.as_deref()).unwrap_or_default();
        let url = encode_url(&endpoint.mapping, record_type, api);
        let encoded =
            part.positions.iter().filter_map(|position| self.prepared.get(*position)?.as_ref().ok());
        let body = encode_body(&endpoint.mapping, record_type, encoded.map(|(_, encoded)| encoded));
        let limit = endpoint.mapping.limits.call_timeout.min(self.time_left());
        let sent = endpoint.client.send_call(&url, body, &authorization.header, limit).await;
        let ids: Vec<RecordId> =
            part.positions.iter().filter_map(|position| Some(self.records.get(*position)?.id)).collect();
        match sent {
            Err(failure) => {
                // A call that the end of the delivery cut short may have been fast enough.
                let was_cut_short = limit < endpoint.mapping.limits.call_timeout / SLOW_CALL_SHARE;
                if failure.is_timeout && !was_cut_short {
                    endpoint.gate.note_too_large(ids.len());
                }
                if !(failure.is_timeout && was_cut_short) {
                    endpoint.note_silence(&url, &failure, &authorization, self.time_left()).await;
                }
                self.repeat_unknown(part, failure.reason, !failure.is_unsent)
            }
            Ok(response) => {
                endpoint.gate.note_response();
                match endpoint.decode(type_index, &response, &ids) {
                    Ok(decoded) => {
                        endpoint.gate.forget_unusable();
                        endpoint.gate.note_credits(response.credits_left);
                        endpoint.gate.note_answered(ids.len());
                        self.take_verdicts(type_index, part, decoded)
                    }
                    Err(trouble) => {
                        if matches!(response.status, 408 | 504) {
                            endpoint.gate.note_too_large(ids.len());
                        }
                        match &trouble {
                            CallTrouble::Unknown { reason } => endpoint.gate.note_unusable(reason),
                            _ => endpoint.gate.forget_unusable(),
                        }
                        if part.positions.len() <= 1 {
                            if let CallTrouble::Refused { code, message, is_certain: false } = &trouble {
                                return self.judge_refused(type_index, part, code, message, is_last);
                            }
                            if let CallTrouble::TooLarge { reason, is_by_bytes: true } = &trouble {
                                return self.judge_refused(type_index, part, TOO_LARGE, reason, is_last);
                            }
                        }
                        let generation = authorization.generation;
                        self.handle_trouble(type_index, part, trouble, generation, permit).await
                    }
                }
            }
        }
    }

    fn take_verdicts(&self, type_index: usize, part: &CallPart, decoded: DecodedCall) -> NextStep {
        if decoded.verdicts.iter().any(Verdict::is_applied) {
            // The type is taken: what stops one record does not stop the others.
            self.endpoint.stops.resume(type_index);
        } else if let Some(reason) = decoded.stop
            && !part.others_applied
        {
            self.stop_type(type_index, &reason);
        }
        if decoded.is_certain {
            NextStep::Settle(decoded.verdicts)
        } else {
            NextStep::Confirm(decoded.verdicts)
        }
    }

    async fn handle_trouble(
        &self,
        type_index: usize,
        part: &mut CallPart,
        trouble: CallTrouble,
        generation: u64,
        permit: GatePermit<'_>,
    ) -> NextStep {
        let endpoint = self.endpoint;
        let is_alone = part.positions.len() <= 1;
        match trouble {
            CallTrouble::Unknown { reason } => self.repeat_unknown(part, reason, true),
            CallTrouble::Throttled { after, limit, is_limit, reason } => {
                // The permit counts until here: the refused call was one of those at a time.
                let wait = endpoint.gate.note_throttled(after, limit, is_limit, &reason);
                drop(permit);
                self.repeat_or(wait, Verdict::retry(Some(wait), DESTINATION_BUSY, reason))
            }
            CallTrouble::AuthExpired { reason, is_named: true } if part.has_renewed => {
                let trouble = endpoint.auth.stop(reason);
                settle_later(Some(trouble.wait), DESTINATION_STOPPED, trouble.reason)
            }
            CallTrouble::AuthExpired { is_named: true, .. } => {
                // If that takes too long, another call is asking for a new token already.
                timeout(self.time_left(), endpoint.auth.discard(generation)).await.ok();
                part.has_renewed = true;
                NextStep::Repeat(Duration::ZERO)
            }
            CallTrouble::AuthExpired { reason, is_named: false } => {
                let discarding = endpoint.auth.discard_doubtful(generation);
                if !part.has_renewed && timeout(self.time_left(), discarding).await == Ok(true) {
                    part.has_renewed = true;
                    return NextStep::Repeat(Duration::ZERO);
                }
                self.isolate_denied(type_index, part, reason)
            }
            CallTrouble::TooLarge { reason, .. } if !is_alone => {
                tracing::info!(records = part.positions.len(), reason, "a call is too large");
                endpoint.gate.note_too_large(part.positions.len());
                NextStep::Split(Duration::ZERO)
            }
            CallTrouble::Refused { .. } if !is_alone => NextStep::Split(Duration::ZERO),
            CallTrouble::Refused { code, message, .. } => {
                NextStep::SettleAll(Verdict::Rejected { code, message, field: None })
            }
            CallTrouble::Later { after, code, message } => settle_later(Some(after), &code, message),
            CallTrouble::Denied { reason } | CallTrouble::TooLarge { reason, .. } => {
                self.isolate_denied(type_index, part, reason)
            }
            CallTrouble::Stopped { reason } => {
                self.stop_type(type_index, &reason);
                settle_later(Some(PROBE_INTERVAL), DESTINATION_STOPPED, reason)
            }
        }
    }

    /// A record was refused alone by an error that does not name it. It is rejected only if others of its type pass.
    fn judge_refused(
        &self,
        type_index: usize,
        part: &CallPart,
        code: &str,
        message: &str,
        is_last: bool,
    ) -> NextStep {
        let is_own_fault = part.others_applied || self.has_applied(type_index);
        if is_own_fault || self.note_denial(type_index, part, code) == Denial::OwnFault {
            let (code, message) = (code.to_owned(), message.to_owned());
            return NextStep::SettleAll(Verdict::Rejected { code, message, field: None });
        }
        if !part.was_put_back && !is_last {
            return NextStep::PutBack;
        }
        settle_later(Some(PROBE_INTERVAL), DESTINATION_STOPPED, format!("{code}: {message}"))
    }

    /// Whether a record of the type was applied in this delivery.
    fn has_applied(&self, type_index: usize) -> bool {
        self.prepared.iter().enumerate().any(|(position, prepared)| {
            matches!(prepared, Ok((index, _)) if *index == type_index) && self.state.is_applied(position)
        })
    }

    /// Finds the record that the destination, or a proxy, denies: it waits, and the others pass.
    fn isolate_denied(&self, type_index: usize, part: &CallPart, reason: String) -> NextStep {
        if part.positions.len() > 1 {
            return NextStep::Split(Duration::ZERO);
        }
        self.note_denial(type_index, part, &reason);
        settle_later(Some(PROBE_INTERVAL), DESTINATION_STOPPED, reason)
    }

    /// The destination denied a record alone. Several in a row stop the type.
    fn note_denial(&self, type_index: usize, part: &CallPart, reason: &str) -> Denial {
        let record = part.positions.first().and_then(|position| self.records.get(*position));
        let Some(record) = record else { return Denial::Unclear };
        let denial = self.endpoint.stops.note_denial(type_index, record.id);
        if denial == Denial::Stop {
            self.stop_type(type_index, reason);
        }
        denial
    }

    /// The same call once more, as long as time is left.
    fn repeat_unknown(&self, part: &mut CallPart, reason: String, may_split: bool) -> NextStep {
        part.unknowns = part.unknowns.saturating_add(1);
        let records = part.positions.len();
        tracing::warn!(records, tries = part.unknowns, reason, "the outcome of a call is unknown");
        part.unknown_reason = Some(reason.clone());
        let (first, longest) = UNCLEAR_DELAY_RANGE;
        let wait = backoff_delay(first, longest, part.unknowns, &mut fastrand::Rng::new());
        if may_split && records > 1 && part.unknowns >= TRIES_BEFORE_SPLIT && wait < self.time_left() {
            return NextStep::Split(wait);
        }
        self.repeat_or(wait, Verdict::retry(None, DESTINATION_UNCLEAR, reason))
    }

    fn stop_type(&self, type_index: usize, reason: &str) {
        let now = self.endpoint.clock.now();
        if self.endpoint.stops.find_active(type_index, now).is_none() {
            let name = self.endpoint.mapping.types.get(type_index).map_or("", |mapping| &mapping.name);
            tracing::error!(record_type = name, reason, "the destination takes no records of a type");
        }
        self.endpoint.stops.stop(type_index, reason, now);
    }
}
