//! How many records a fresh batch has, and why.
//!
//! At first, the customer's three sizes apply: small batches for a large queue, medium ones for a large payload, and
//! otherwise the standard size. Once enough batches were measured, the measurements decide: the largest batch whose
//! expected duration fits the time limit with the margin, and that fits the limit in 99 of 100 cases
//! ([`crate::policy::service_time`]). The breaker's micro-batches and the server's hints make it smaller, never larger.

use std::sync::Arc;
use std::time::Duration;

use super::service_time::{Forecast, Load, ServiceTime};
use crate::config;
use crate::model::SizeRule;
use crate::protocol::exchange::ServerHints;

/// The largest fresh batch, and which rule limits it.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchLimit {
    /// Records, at least 1.
    pub records: usize,
    /// Payload bytes; a single larger record is still sent, alone.
    pub bytes: u64,
    /// Which rule decided the number of records.
    pub rule: SizeRule,
    /// Which rule decided the bytes; none for the configured limit.
    pub bytes_rule: Option<SizeRule>,
    /// What it may take, once something was measured.
    pub time: Option<TimeBound>,
}

/// How long a batch may be expected to take.
#[derive(Clone, Debug, PartialEq)]
pub struct TimeBound {
    /// What was learned.
    pub service: Arc<ServiceTime>,
    /// By what factor it takes longer beside the others that are under way.
    pub load_factor: f64,
    /// Seconds, on average.
    pub mean: f64,
    /// Seconds, in 99 of 100 cases.
    pub most: f64,
}

impl TimeBound {
    fn fits(&self, alone: Forecast) -> bool {
        let forecast = alone.scaled(self.load_factor);
        forecast.mean <= self.mean && forecast.upper <= self.most
    }
}

impl BatchLimit {
    /// How many records a batch of the usual mix has, each of `bytes`.
    pub fn usual_records(&self, bytes: u64) -> usize {
        let by_bytes = self.bytes.checked_div(bytes).unwrap_or(u64::MAX);
        let most = self.records.min(usize::try_from(by_bytes).unwrap_or(usize::MAX)).max(1);
        let Some(time) = &self.time else { return most };
        let fits = |records: usize| time.fits(time.service.forecast_usual(records as u64));
        // Binary search: more records never take less time.
        let (mut fitting, mut beyond) = (1, most + 1);
        while fitting + 1 < beyond {
            let middle = usize::midpoint(fitting, beyond);
            if fits(middle) { fitting = middle } else { beyond = middle }
        }
        fitting
    }

    /// Whether only the duration or a configured maximum bounds the size, so that it is not still growing.
    pub fn is_grown(&self, bytes: u64, config: &config::Batch) -> bool {
        let by_bytes = self.bytes.checked_div(bytes).unwrap_or(u64::MAX);
        let is_bound_by_time = self.usual_records(bytes) < self.records && (self.records as u64) <= by_bytes;
        is_bound_by_time || self.records >= largest_records(config) || self.rule == SizeRule::ServerHint
    }

    /// An empty batch under this limit.
    pub fn start_filling(&self) -> Filling<'_> {
        Filling { limit: self, load: Load::default(), rule: self.rule }
    }
}

/// A batch that is being filled, in queue order.
#[derive(Clone, Debug)]
pub struct Filling<'l> {
    limit: &'l BatchLimit,
    load: Load,
    rule: SizeRule,
}

impl Filling<'_> {
    /// Adds a record if it fits; the first one always does.
    pub fn admit_record(&mut self, record_type: &str, bytes: u64) -> bool {
        let records = self.load.records();
        if records >= self.limit.records {
            return false;
        }
        if records > 0 && self.load.bytes() + bytes > self.limit.bytes {
            self.rule = self.limit.bytes_rule.unwrap_or(self.rule);
            return false;
        }
        self.load.add_record(record_type, bytes);
        if records > 0
            && let Some(time) = &self.limit.time
            && !time.fits(time.service.forecast(&self.load))
        {
            self.load.remove_record(record_type, bytes);
            self.rule = SizeRule::Learned;
            return false;
        }
        true
    }

    /// Which rule gave it its size.
    pub fn rule(&self) -> SizeRule {
        self.rule
    }

    /// What it holds.
    pub fn load(&self) -> &Load {
        &self.load
    }
}

/// Everything that the size of a batch depends on.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    /// Records that wait.
    pub waiting_records: u64,
    /// Their payload bytes.
    pub waiting_bytes: u64,
    /// The breaker asks for micro-batches.
    pub micro: bool,
    /// The learned model of the server's time, if it is used.
    pub service: Option<Arc<ServiceTime>>,
    /// By what factor a batch takes longer beside the others that are under way.
    pub load_factor: f64,
    /// What a batch may take on average.
    pub time_budget: Duration,
    /// The time limit in front of the server.
    pub time_limit: Duration,
    /// The learned limit for the payload bytes of a body, if larger ones failed.
    pub learned_bytes: Option<u64>,
    /// What the server asks for.
    pub hints: ServerHints,
}

/// The size of the next fresh batch.
pub fn choose_limit(config: &config::Batch, demand: &Demand) -> BatchLimit {
    let service = demand.service.as_ref();
    let (mut records, mut rule) = if service.is_some_and(|service| service.has_enough_measurements()) {
        (largest_records(config), SizeRule::Learned)
    } else if demand.waiting_records > config.large_queue_records {
        (config.large_queue_batch, SizeRule::LargeQueue)
    } else if demand.waiting_bytes > config.large_payload_bytes.0 {
        (config.large_payload_batch, SizeRule::LargePayload)
    } else {
        (config.standard_batch, SizeRule::Standard)
    };
    let mut bound = |limit: Option<usize>, because| {
        if let Some(limit) = limit.filter(|limit| *limit < records) {
            (records, rule) = (limit, because);
        }
    };
    bound(service.and_then(|service| service.largest_next()), SizeRule::Learned);
    bound(demand.hints.max_records, SizeRule::ServerHint);
    bound(demand.micro.then_some(config.micro_batch), SizeRule::Micro);
    let mut bytes = (config.max_batch_bytes.0, None);
    for (limit, because) in
        [(demand.learned_bytes, SizeRule::Learned), (demand.hints.max_bytes, SizeRule::ServerHint)]
    {
        if let Some(limit) = limit.filter(|limit| *limit < bytes.0) {
            bytes = (limit, Some(because));
        }
    }
    let measured = service.filter(|service| service.has_measurements());
    let time = measured.map(|service| TimeBound {
        service: Arc::clone(service),
        load_factor: demand.load_factor,
        mean: demand.time_budget.as_secs_f64(),
        most: demand.time_limit.as_secs_f64(),
    });
    BatchLimit { records: records.max(1), bytes: bytes.0.max(1), rule, bytes_rule: bytes.1, time }
}

/// A configured size that is larger than `max_batch_records` takes precedence over it.
fn largest_records(config: &config::Batch) -> usize {
    let named = config.large_queue_batch.max(config.large_payload_batch).max(config.standard_batch);
    config.max_batch_records.max(named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::service_time::Measured;

    const MIB: u64 = 1 << 20;
    const T: Duration = Duration::from_mins(1);

    fn config() -> config::Batch {
        config::Batch::default()
    }

    fn demand() -> Demand {
        Demand { load_factor: 1.0, time_limit: T, time_budget: T.mul_f64(0.75), ..Demand::default() }
    }

    fn size(demand: &Demand) -> (usize, SizeRule) {
        let limit = choose_limit(&config(), demand);
        (limit.records, limit.rule)
    }

    /// What a batch of records of one type and size comes to.
    fn filled(limit: &BatchLimit, bytes: u64) -> (usize, SizeRule) {
        let mut filling = limit.start_filling();
        while filling.admit_record("Visits", bytes) {}
        (filling.load().records(), filling.rule())
    }

    fn measured(answers: u32, records: usize, elapsed: Duration) -> Arc<ServiceTime> {
        let mut load = Load::default();
        for _ in 0..records {
            load.add_record("Visits", 300);
        }
        let mut service = ServiceTime::default();
        for _ in 0..answers {
            service.record_response(&load, Measured::alone(elapsed), T);
            service.record_fit(records, elapsed);
        }
        Arc::new(service)
    }

    #[test]
    fn the_three_sizes_of_the_customer() {
        for (waiting_records, waiting_bytes, expected) in [
            (101, 0, (25, SizeRule::LargeQueue)),
            (101, 2 * MIB, (25, SizeRule::LargeQueue)),
            (100, MIB + 1, (30, SizeRule::LargePayload)),
            (100, MIB, (50, SizeRule::Standard)),
            (1, 10, (50, SizeRule::Standard)),
        ] {
            let demand = Demand { waiting_records, waiting_bytes, ..demand() };
            assert_eq!(size(&demand), expected, "{waiting_records} records, {waiting_bytes} bytes");
        }
    }

    #[test]
    fn the_tightest_bound_decides_and_names_the_rule() {
        let hints = ServerHints { max_records: Some(20), ..ServerHints::default() };
        let slow = measured(10, 25, Duration::from_secs(42));
        for (micro, service, hints, expected) in [
            (false, None, ServerHints::default(), (50, SizeRule::Standard)),
            (false, Some(Arc::clone(&slow)), ServerHints::default(), (25, SizeRule::Learned)),
            (false, Some(Arc::clone(&slow)), hints, (20, SizeRule::ServerHint)),
            (true, Some(slow), hints, (10, SizeRule::Micro)),
        ] {
            let limit = choose_limit(&config(), &Demand { micro, service, hints, ..demand() });
            let (records, rule) = filled(&limit, 300);
            assert!(records.abs_diff(expected.0) <= 3, "{records} for {expected:?}");
            assert_eq!(rule, expected.1);
        }
    }

    #[test]
    fn thirty_records_in_35_s_and_a_margin_of_a_quarter_give_22_to_25() {
        // The customer's own figures: 35 s are the threshold, so 40 s are a limit that they fit.
        let limit = Duration::from_secs(40);
        for answers in [10, 20, 50] {
            let service = Some(measured(answers, 30, Duration::from_secs(35)));
            let time_budget = Duration::from_secs(35).mul_f64(0.75);
            let demand = Demand { service, time_limit: limit, time_budget, ..demand() };
            let (records, rule) = filled(&choose_limit(&config(), &demand), 300);
            assert!((22..=25).contains(&records), "{records} after {answers}");
            assert_eq!(rule, SizeRule::Learned);
        }
    }

    #[test]
    fn with_enough_measurements_only_they_decide() {
        let quick = Duration::from_secs(2);
        for (answers, expected) in [(1, 25), (2, 25), (3, 50)] {
            let demand =
                Demand { waiting_records: 1000, service: Some(measured(answers, 25, quick)), ..demand() };
            let limit = choose_limit(&config(), &demand);
            assert_eq!(filled(&limit, 300).0, expected, "after {answers} answers");
            assert_eq!(limit.usual_records(300), expected);
        }
    }

    #[test]
    fn bytes_obey_the_smallest_of_all_limits() {
        let hints = ServerHints { max_bytes: Some(4000), ..ServerHints::default() };
        let limited = Demand { learned_bytes: Some(5000), hints, ..demand() };
        let limit = choose_limit(&config(), &limited);
        assert_eq!(limit.bytes, 4000);
        assert_eq!(filled(&limit, 1500), (2, SizeRule::ServerHint));
        assert_eq!(filled(&limit, 9000), (1, SizeRule::ServerHint), "a larger one goes alone");
        assert_eq!(choose_limit(&config(), &demand()).bytes, 4 * MIB);
    }
}
