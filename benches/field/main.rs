//! Simulates days in the field within seconds: the policy, a naive client, the customer's rules taken literally, and an
//! oracle, in scenes with a simulated clock. Everything is seeded: `--scene`, `--client` and `--seed` reproduce a
//! figure, and `--trace` shows its requests. `programs` runs the built programs instead, in real time.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds, bytes and counts of a simulation, all small and none negative"
)]

mod aims;
mod capacity;
mod chance;
mod client;
mod device;
mod events;
mod fieldsync;
mod figures;
mod flight;
mod flight_report;
mod flight_scene;
mod link;
mod literal;
mod naive;
mod oracle;
mod programs;
mod record;
mod report;
mod requests;
mod scene;
mod seeds;
mod server;
mod server_spec;
mod tally;
mod target;
mod workers;
mod world;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::figures::{Figures, Run, figures};
use crate::flight_scene::FlightScene;
use crate::scene::Scene;
use crate::world::{ONLY_DEVICE, World};

/// A client is stopped after this many times the duration of the oracle.
const ORACLE_TIME_FACTOR_MAX: u32 = 10;
/// Bounds the oracle itself, in case a scene is impossible.
const ORACLE_DURATION_MAX: Duration = Duration::from_hours(24 * 365);

/// Compares clients in the field; prints a Markdown table.
#[derive(Parser)]
#[command(name = "field")]
struct Options {
    #[command(subcommand)]
    instead: Option<Instead>,
    /// Runs of each client in each scene
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// Only this seed
    #[arg(long)]
    seed: Option<u64>,
    /// Only scenes with this in their name
    #[arg(long, default_value = "")]
    scene: String,
    /// Only clients with this in their name: naive, literal, fieldsync; the oracle always runs
    #[arg(long, default_value = "")]
    client: String,
    /// Which tables
    #[arg(long, value_enum, default_value_t)]
    table: Tables,
    /// In the table of several batches in flight: only this setting
    #[arg(long)]
    max_in_flight: Option<usize>,
    /// Every figure, as JSON
    #[arg(long)]
    json: bool,
    /// Every request of every client, to standard error
    #[arg(long)]
    trace: bool,
    /// Set by `cargo bench`
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, clap::ValueEnum)]
enum Tables {
    #[default]
    All,
    /// One batch at a time
    Serial,
    /// Several batches in flight
    InFlight,
}

/// Measurements without the scenes.
#[derive(Subcommand)]
enum Instead {
    /// The built gateway and daemon: learning beside the best fixed size
    Programs(programs::Options),
}

type Client = (&'static str, fn(&mut World));

const CLIENTS: [Client; 3] =
    [("naive", naive::run), ("literal", literal::run), ("fieldsync", |world| fieldsync::run(world, 1))];

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(Instead::Programs(options)) = &options.instead {
        programs::measure(options);
        return ExitCode::SUCCESS;
    }
    let (mut scenes, mut flights) = (Vec::new(), Vec::new());
    if options.table != Tables::InFlight {
        scenes = scene::scenes();
        scenes.retain(|scene| scene.name.contains(&options.scene));
    }
    if options.table != Tables::Serial {
        flights = flight_scene::scenes();
        flights.retain(|flight| flight.scene.name.contains(&options.scene));
    }
    let seeds: Vec<u64> = options.seed.map_or(0..options.seeds, |seed| seed..seed + 1).collect();
    let serial_runs = run_serial_scenes(&scenes, &seeds, &options);
    let flight_runs = run_flight_scenes(&flights, &seeds, &options);
    let mut runs: Vec<Run> = serial_runs.into_iter().chain(flight_runs).collect();
    runs.sort_by_key(|run| run.seed);
    if options.json {
        println!("{:#}", report::json(&runs));
    } else {
        print_tables(&scenes, &flights, &runs, &options);
    }
    let wrongs = target::wrongs(&runs);
    for wrong in &wrongs {
        eprintln!("{wrong}");
    }
    if wrongs.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_serial_scenes(scenes: &[Scene], seeds: &[u64], options: &Options) -> Vec<Run> {
    let clients: Vec<Client> =
        CLIENTS.into_iter().filter(|(name, _)| name.contains(&options.client)).collect();
    let jobs: Vec<(&Scene, u64)> =
        scenes.iter().flat_map(|scene| seeds.iter().map(move |seed| (scene, *seed))).collect();
    in_parallel(&jobs, |(scene, seed)| run_clients(scene, *seed, &clients, options.trace))
}

fn run_flight_scenes(flights: &[FlightScene], seeds: &[u64], options: &Options) -> Vec<Run> {
    let jobs: Vec<(&FlightScene, u64)> =
        flights.iter().flat_map(|flight| seeds.iter().map(move |seed| (flight, *seed))).collect();
    in_parallel(&jobs, |(flight, seed)| {
        flight::run_scene(flight, *seed, options.max_in_flight, options.trace)
    })
}

fn print_tables(scenes: &[Scene], flights: &[FlightScene], runs: &[Run], options: &Options) {
    if !scenes.is_empty() {
        let names: Vec<&str> = scenes.iter().map(|scene| scene.name.as_str()).collect();
        println!("{}", report::table(&names, runs));
    }
    if !flights.is_empty() {
        let at = |flight: &FlightScene| options.max_in_flight.map_or(flight.at.to_vec(), |at| vec![at]);
        let rows: Vec<(String, usize)> = flights
            .iter()
            .flat_map(|flight| at(flight).into_iter().map(|most| (flight.scene.name.clone(), most)))
            .collect();
        println!("{}", flight_report::table(&rows, runs));
    }
}

/// All clients in one scene with one seed; goodput in percent of the oracle's.
fn run_clients(scene: &Scene, seed: u64, clients: &[Client], trace: bool) -> Vec<Run> {
    let run = |name, client: fn(&mut World), horizon| {
        let mut world = World::new(scene, seed, horizon);
        world.trace = trace.then_some(name);
        client(&mut world);
        (figures(&world, ONLY_DEVICE), world.measured_time())
    };
    let (known, longest) = run("oracle", oracle::run, ORACLE_DURATION_MAX);
    let best = known.clone();
    let relative = |mut figures: Figures| {
        for name in ["goodput", "others"] {
            figures.entry(name).and_modify(|goodput| *goodput *= 100.0 / best[name]);
        }
        figures
    };
    let named = |client: &str, figures| Run {
        scene: scene.name.clone(),
        client: client.into(),
        seed,
        figures: relative(figures),
    };
    let mut runs = vec![named("oracle", known)];
    runs.extend(
        clients
            .iter()
            .map(|(name, client)| named(name, run(name, *client, longest * ORACLE_TIME_FACTOR_MAX).0)),
    );
    runs
}

/// Runs the jobs on all processors. The results are in no particular order.
fn in_parallel<J: Sync, R: Send>(jobs: &[J], work: impl Fn(&J) -> Vec<R> + Sync) -> Vec<R> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let results = work(job);
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(results);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}
