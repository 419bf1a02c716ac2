//! Traffic of which everything is known: what a record of each type costs, up to which size batches succeed, and over
//! which interface they fail. The server measures what it does, because a loaded machine is slower than planned.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fieldsync::clock::Clock;
use serde_json::{Value, json};

use crate::support::daemon::{Counts, Daemon};
use crate::support::server::{Reply, Request, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::pace;

/// The planned cost of a record of each type: what the daemon needs besides is small in comparison.
const COSTS: [(&str, Duration); 2] =
    [("Visits", Duration::from_millis(20)), ("Photos", Duration::from_millis(100))];
/// Larger batches get a 504.
const LARGEST_BATCH: usize = 20;
/// Records of each type, of one batch after the other.
const MIXES: [[usize; 2]; 14] = [
    [12, 1],
    [3, 6],
    [8, 8],
    [1, 10],
    [16, 2],
    [5, 5],
    [10, 3],
    [2, 9],
    [14, 4],
    [6, 1],
    [18, 0],
    [0, 7],
    // These are too large.
    [20, 10],
    [13, 13],
];
/// Upper bounds of the ranges of sizes, and their names.
const SIZE_RANGES: [(usize, &str); 7] =
    [(1, "1"), (5, "2–5"), (10, "6–10"), (25, "11–25"), (50, "26–50"), (100, "51–100"), (usize::MAX, ">100")];
/// How far a measurement may be from the fact.
const TOLERANCE: f64 = 0.1;
/// How much farther it may be if delays were noticed.
const TOLERANCE_FOR_DELAYS_MAX: f64 = 0.15;
/// After longer delays, the traffic is repeated.
const DELAYS_MAX: Duration = Duration::from_millis(100);
const RUNS_MAX: usize = 3;
/// From the enqueueing of a batch to its settlement, without the work of the server: more than this is a delay.
const OVERHEAD: Duration = Duration::from_millis(100);
/// The same for a batch that is too large, which is divided.
const OVERHEAD_TOO_LARGE: Duration = Duration::from_millis(400);

/// What the server knows, and every report has to show.
#[derive(Clone, Default)]
pub(super) struct KnownFacts {
    pub(super) types: BTreeMap<String, TypeFacts>,
    /// By the name of the range of sizes.
    pub(super) sizes: BTreeMap<&'static str, SizeFacts>,
    /// Batches that got a 504, all of them over [`KnownFacts::INTERFACE`].
    pub(super) timeouts: u32,
    /// What a busy machine may have added to the times that the daemon measured.
    delays: Duration,
}

#[derive(Clone, Default)]
pub(super) struct TypeFacts {
    /// In batches that succeeded.
    pub(super) records: u32,
    /// The time that they took.
    pub(super) busy: Duration,
}

#[derive(Clone, Default)]
pub(super) struct SizeFacts {
    pub(super) batches: u32,
    pub(super) succeeded: u32,
    /// In batches that succeeded.
    pub(super) records: u32,
    /// The time that they took.
    pub(super) busy: Duration,
}

impl KnownFacts {
    /// The interface of every failure.
    pub(super) const INTERFACE: &'static str = "loopback";

    pub(super) fn records(&self) -> u32 {
        self.types.values().map(|of_type| of_type.records).sum()
    }

    fn busy(&self) -> Duration {
        self.types.values().map(|of_type| of_type.busy).sum()
    }

    pub(super) fn busy_ms(&self) -> f64 {
        self.busy().as_secs_f64() * 1000.0
    }

    /// The number is close to what the server knows. Delays are part of the daemon's times, but not of the server's.
    /// Each of the compared times was measured for more than a second in total, so 100 ms of delays add less than 10 %.
    #[track_caller]
    fn assert_close(&self, what: &str, found: &Value, expected: f64) {
        let number = found.as_f64().unwrap_or_else(|| panic!("{what} is not a number: {found}"));
        let difference = (number - expected).abs();
        let tolerance = TOLERANCE + self.delays.as_secs_f64().min(TOLERANCE_FOR_DELAYS_MAX);
        assert!(difference <= tolerance * expected, "{what}: {number}, but the server knows {expected}");
    }

    /// Works on a batch for as long as its records cost, if it is not too large.
    fn process_batch(&mut self, request: &Request) -> Reply {
        let records = request.records();
        let (_, range) = SIZE_RANGES.iter().find(|(most, _)| records.len() <= *most).unwrap();
        let of_size = self.sizes.entry(range).or_default();
        of_size.batches += 1;
        if records.len() > LARGEST_BATCH {
            self.timeouts += 1;
            return Reply::html(504);
        }
        of_size.succeeded += 1;
        of_size.records += u32::try_from(records.len()).unwrap();
        for (name, cost) in COSTS {
            let count = records.iter().filter(|record| record["type"] == name).count();
            let count = u32::try_from(count).unwrap();
            let clock = Clock::start();
            pace(cost * count);
            let took = clock.now();
            of_size.busy += took;
            let of_type = self.types.entry(name.to_owned()).or_default();
            of_type.records += count;
            of_type.busy += took;
        }
        Reply::applied(request)
    }
}

impl TypeFacts {
    pub(super) fn cost_ms(&self) -> f64 {
        self.busy.as_secs_f64() * 1000.0 / f64::from(self.records)
    }
}

/// A daemon after the traffic, and the facts about it. On a busy machine, the traffic is repeated with new daemons.
pub(super) fn run_known_traffic() -> (Daemon, KnownFacts) {
    let mut best = run_once();
    for _ in 1..RUNS_MAX {
        if best.1.delays <= DELAYS_MAX {
            break;
        }
        let next = run_once();
        if next.1.delays < best.1.delays {
            best = next;
        }
    }
    best
}

fn run_once() -> (Daemon, KnownFacts) {
    let facts = Arc::new(Mutex::new(KnownFacts::default()));
    let of_server = Arc::clone(&facts);
    let server = ScriptedServer::start(move |request| {
        if request.is_batch() {
            of_server.lock().unwrap().process_batch(request)
        } else {
            Reply::unknown_batch()
        }
    });
    let settings = Settings::for_server(&server.url())
        .batches_of(50)
        .with("batch.micro_batch", "10")
        .with("server.request_timeout", "30s")
        // A log line for each record would change the times.
        .with("log.level", "info");
    let daemon = Daemon::start(&settings);
    let (mut synced, mut delays) = (0, Duration::ZERO);
    for mix in MIXES {
        let records: Vec<Value> = COSTS
            .iter()
            .zip(mix)
            .flat_map(|((name, _), count)| vec![json!({"type": name, "payload": {"text": "known"}}); count])
            .collect();
        let (clock, busy) = (Clock::start(), facts.lock().unwrap().busy());
        daemon.enqueue(&records);
        synced += records.len() as u64;
        assert_eq!(daemon.wait_until_done(), Counts::all_synced(synced));
        let overhead = clock.now().saturating_sub(facts.lock().unwrap().busy().saturating_sub(busy));
        let usual = if records.len() > LARGEST_BATCH { OVERHEAD_TOO_LARGE } else { OVERHEAD };
        delays += overhead.saturating_sub(usual);
    }
    let facts = KnownFacts { delays, ..facts.lock().unwrap().clone() };
    assert!(facts.timeouts >= 2, "the two largest batches were too large");
    (daemon, facts)
}

fn named<'v>(list: &'v Value, key: &str, name: &str) -> &'v Value {
    let found = list.as_array().unwrap().iter().find(|entry| entry[key] == name);
    found.unwrap_or_else(|| panic!("{name} is missing: {list:#}"))
}

#[test]
fn api_page_and_metrics_show_what_the_server_knows_about_the_traffic() {
    let (daemon, facts) = run_known_traffic();
    check_api(&daemon.get("/v1/telemetry").expect_json(200), &facts);
    let page = daemon.cli(&["telemetry", "report", "--html", "-"]);
    assert_eq!(page.code, Some(0), "{page:?}");
    check_page(&page.stdout, &facts);
    check_metrics(&read_samples(&daemon.get("/metrics").text()), &facts);
}

fn check_api(report: &Value, facts: &KnownFacts) {
    assert_eq!(report["per_record"]["records"], facts.records());
    facts.assert_close(
        "mean per record",
        &report["per_record"]["mean_ms"],
        facts.busy_ms() / f64::from(facts.records()),
    );

    for (name, of_type) in &facts.types {
        let found = named(&report["by_type"], "type", name);
        assert_eq!(
            (&found["is_separated"], &found["records"]),
            (&true.into(), &of_type.records.into()),
            "{found:#}"
        );
        facts.assert_close(name, &found["ms_per_record"], of_type.cost_ms());
        let delay_ms = found["delay_ms"].as_f64().unwrap() - found["failed_ms"].as_f64().unwrap();
        facts.assert_close(name, &delay_ms.into(), of_type.busy.as_secs_f64() * 1000.0);
    }

    for (range, of_size) in &facts.sizes {
        let found = named(&report["by_batch_size"], "size", range);
        assert_eq!(
            (&found["batches"], &found["succeeded"], &found["timeouts"]),
            (
                &of_size.batches.into(),
                &of_size.succeeded.into(),
                &(of_size.batches - of_size.succeeded).into()
            ),
            "{range}: {found:#}"
        );
        if of_size.succeeded > 0 {
            let busy = of_size.busy.as_secs_f64();
            facts.assert_close(range, &found["mean_ms"], busy * 1000.0 / f64::from(of_size.succeeded));
        }
        if of_size.succeeded == of_size.batches {
            facts.assert_close(
                range,
                &found["records_per_s"],
                f64::from(of_size.records) / of_size.busy.as_secs_f64(),
            );
        }
    }
    let batches: u32 = facts.sizes.values().map(|of_size| of_size.batches).sum();
    assert_eq!(named(&report["by_in_flight"], "in_flight", "1")["batches"], batches);

    let failure = named(&report["failures"], "class", "timeout");
    assert_eq!(
        (&failure["count"], &failure["interface"]),
        (&facts.timeouts.into(), &KnownFacts::INTERFACE.into())
    );
    let expected = json!([{"interface": KnownFacts::INTERFACE, "count": facts.timeouts}]);
    assert_eq!(failure["interfaces"], expected);
    let by_hour: u64 = failure["by_hour"].as_array().unwrap().iter().filter_map(Value::as_u64).sum();
    assert_eq!((by_hour, failure["by_hour"].as_array().unwrap().len()), (facts.timeouts.into(), 24));

    // The traffic may have gone on over an hour or a day.
    for periods in ["days", "hours"] {
        let sum = |key: &str| {
            let periods = report[periods].as_array().unwrap().iter();
            periods.map(|period| period[key].as_u64().unwrap()).sum::<u64>()
        };
        assert_eq!((sum("batches"), sum("timeouts")), (batches.into(), facts.timeouts.into()), "{periods}");
        assert_eq!(sum("records"), u64::from(facts.records()), "{periods}");
    }
}

/// The cells behind the name of a row, in the table with this caption.
#[track_caller]
fn row_of_page<'p>(page: &'p str, caption: &str, name: &str) -> Vec<&'p str> {
    let (_, table) = page.split_once(&format!("<caption>{caption}</caption>")).expect(caption);
    let (table, _) = table.split_once("</table>").unwrap();
    let (_, row) = table.split_once(&format!("<th scope=\"row\">{name}</th>")).expect(name);
    let (row, _) = row.split_once("</tr>").unwrap();
    row.split("<td>").skip(1).map(|cell| cell.trim_end_matches("</td>")).collect()
}

/// `54 ms` and `2.5 s` as milliseconds.
fn read_duration(text: &str) -> Value {
    let (number, unit) = text.split_once(' ').unwrap();
    let number: f64 = number.parse().unwrap();
    match unit {
        "ms" => json!(number),
        "s" => json!(number * 1000.0),
        _ => panic!("{text} is not short"),
    }
}

fn check_page(page: &str, facts: &KnownFacts) {
    for (name, of_type) in &facts.types {
        let cells = row_of_page(page, "Record types", name);
        assert_eq!((cells[0], cells[2]), (of_type.records.to_string().as_str(), "yes"), "{name}");
        facts.assert_close(name, &read_duration(cells[1]), of_type.cost_ms());
    }
    for (range, of_size) in &facts.sizes {
        let cells = row_of_page(page, "Batches by size", range);
        let timeouts = of_size.batches - of_size.succeeded;
        let counts = [of_size.batches, of_size.succeeded, timeouts].map(|count| count.to_string());
        assert_eq!([cells[0], cells[1], cells[3]], counts.each_ref().map(String::as_str), "{range}");
    }
    let failure = row_of_page(page, "Networks during failures", "no response in time");
    assert_eq!(failure[0], facts.timeouts.to_string());
    assert_eq!(failure[1], format!("This device {}", facts.timeouts));
}

/// The samples by name and labels.
fn read_samples(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| (name.into(), value.parse().unwrap()))
        .collect()
}

fn check_metrics(samples: &BTreeMap<String, f64>, facts: &KnownFacts) {
    let sum = |value: fn(&SizeFacts) -> u32| facts.sizes.values().map(value).sum::<u32>();
    let (batches, succeeded) = (sum(|of_size| of_size.batches), sum(|of_size| of_size.succeeded));
    for (sample, expected) in [
        ("fieldsync_batches_total{outcome=\"timeout\"}", facts.timeouts),
        ("fieldsync_batches_total{outcome=\"answered\"}", succeeded),
        ("fieldsync_batch_records_count", batches),
        ("fieldsync_records_synced_total", facts.records()),
        ("fieldsync_link_interface{name=\"loopback\"}", 1),
    ] {
        assert_eq!(samples.get(sample), Some(&f64::from(expected)), "{sample}");
    }
    let answered_s = samples["fieldsync_batch_duration_seconds_sum{result=\"answered\"}"];
    facts.assert_close("time of the batches", &(answered_s * 1000.0).into(), facts.busy_ms());
}
