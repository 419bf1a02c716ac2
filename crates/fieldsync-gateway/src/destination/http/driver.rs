//! Hands records over: plans the calls, and runs them wave by wave.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::call_run::CallRun;
use super::delivery_state::DeliveryState;
use super::encode::EncodedRecord;
use super::endpoint::{HttpDestinationError, HttpEndpoint};
use super::mapping::HttpMapping;
use super::plan::{CallSize, PlanRecord, cut_calls, find_predecessors, plan_waves};
use super::reload_cache::ReloadCache;
use super::stops::ActiveStop;
use super::throttle::GateTrouble;
use crate::destination::delivery::{
    DESTINATION_BUSY, Destination, DestinationCondition, RecordVerdict, StoppedType, Verdict, VerdictSender,
    is_urgent,
};
use crate::validated_batch::{HELD, HELD_MESSAGE, ValidatedRecord};

/// A destination that is called as a mapping says.
pub(crate) struct HttpDestination(HttpEndpoint);

impl HttpDestination {
    /// A destination of this mapping, with what the cache has for it.
    pub(crate) fn new(mapping: HttpMapping, cache: &ReloadCache) -> Result<Self, HttpDestinationError> {
        HttpEndpoint::new(mapping, cache).map(Self)
    }

    async fn deliver_all(
        &self,
        records: &[&ValidatedRecord],
        time_budget: Duration,
        verdicts: VerdictSender,
    ) {
        let prepared: Vec<Result<(usize, EncodedRecord), Verdict>> =
            records.iter().map(|record| self.0.prepare_record(record)).collect();
        let plan: Vec<PlanRecord<'_>> = records
            .iter()
            .zip(&prepared)
            .map(|(record, prepared)| PlanRecord {
                key: record.key.as_deref(),
                type_index: prepared.as_ref().map_or(usize::MAX, |(index, _)| *index),
                bytes: prepared.as_ref().map_or(0, |(_, encoded)| encoded.bytes()),
            })
            .collect();
        let predecessors = find_predecessors(&plan);
        let state = DeliveryState::new(records.len(), self.0.clock.now() + time_budget, verdicts);
        let run = CallRun { endpoint: &self.0, records, prepared: &prepared, state: &state };
        for wave in plan_waves(&plan) {
            let scarcity = self.0.gate.scarcity();
            let (mut due, mut settled) = (Vec::new(), Vec::new());
            for position in wave {
                let before = predecessors.get(position).copied().flatten();
                match prepared.get(position) {
                    Some(Err(verdict)) => settled.push(RecordVerdict { position, verdict: verdict.clone() }),
                    Some(Ok(_)) if before.is_some_and(|before| !state.is_applied(before)) => {
                        settled.push(RecordVerdict { position, verdict: hold_record() });
                    }
                    Some(Ok(_)) => match &scarcity {
                        Some(scarcity) if !is_urgent(records[position]) => {
                            settled.push(RecordVerdict { position, verdict: save_credits(scarcity) });
                        }
                        _ => due.push(position),
                    },
                    None => {}
                }
            }
            state.settle(settled).await;
            let size = CallSize {
                records: self.0.gate.choose_call_records(due.len()),
                bytes: self.0.mapping.max_bytes,
            };
            run.run_calls(cut_calls(&due, &plan, size)).await;
        }
    }
}

fn hold_record() -> Verdict {
    Verdict::retry(None, HELD, HELD_MESSAGE)
}

fn save_credits(scarcity: &GateTrouble) -> Verdict {
    Verdict::retry(Some(scarcity.wait), DESTINATION_BUSY, scarcity.reason.clone())
}

impl Destination for HttpDestination {
    fn deliver<'a>(
        &'a self,
        records: &'a [&'a ValidatedRecord],
        time_budget: Duration,
        verdicts: VerdictSender,
    ) -> BoxFuture<'a, ()> {
        Box::pin(self.deliver_all(records, time_budget, verdicts))
    }

    fn condition(&self) -> DestinationCondition {
        if let Some(trouble) = self.0.auth.trouble() {
            let (wait, reason) = (trouble.wait, trouble.reason);
            return if trouble.is_stop {
                DestinationCondition::Stopped { wait, reason }
            } else {
                DestinationCondition::Waiting { wait, reason }
            };
        }
        let types = self.0.mapping.types.len();
        if let Some(ActiveStop { wait, reason }) = self.0.stops.find_stop_of_all(types, self.0.clock.now()) {
            return DestinationCondition::Stopped { wait, reason };
        }
        if let Some(GateTrouble { wait, reason }) = self.0.gate.trouble() {
            return DestinationCondition::Waiting { wait, reason };
        }
        match self.0.gate.scarcity() {
            Some(GateTrouble { wait, reason }) => DestinationCondition::Scarce { wait, reason },
            None => DestinationCondition::Ready,
        }
    }

    fn stopped_types(&self) -> Vec<StoppedType> {
        self.0.stopped_types()
    }
}
