//! Simulates days in the field within seconds: the policy, a naive client, the customer's rules taken literally, and an
//! oracle, in scenes with a simulated clock. Everything is seeded: `--scene`, `--client` and `--seed` reproduce a
//! figure, and `--trace` shows its requests. `programs` runs the built programs instead, in real time.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds, bytes and counts of a simulation, all small and none negative"
)]

mod chance;
mod fieldsync;
mod figures;
mod link;
mod literal;
mod naive;
mod oracle;
mod programs;
mod record;
mod report;
mod scene;
mod server;
mod server_spec;
mod tally;
mod target;
mod world;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::figures::{Figures, Run, figures};
use crate::scene::Scene;
use crate::world::World;

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

/// Measurements without the scenes.
#[derive(Subcommand)]
enum Instead {
    /// The built gateway and daemon: learning beside the best fixed size
    Programs(programs::Options),
}

type Client = (&'static str, fn(&mut World));

const CLIENTS: [Client; 3] =
    [("naive", naive::run), ("literal", literal::run), ("fieldsync", fieldsync::run)];

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(Instead::Programs(options)) = &options.instead {
        programs::measure(options);
        return ExitCode::SUCCESS;
    }
    let mut scenes = scene::scenes();
    scenes.retain(|scene| scene.name.contains(&options.scene));
    let clients: Vec<Client> =
        CLIENTS.into_iter().filter(|(name, _)| name.contains(&options.client)).collect();
    let seeds = options.seed.map_or(0..options.seeds, |seed| seed..seed + 1);
    let jobs: Vec<(&Scene, u64)> =
        scenes.iter().flat_map(|scene| seeds.clone().map(move |seed| (scene, seed))).collect();
    let runs = in_parallel(&jobs, |(scene, seed)| run_clients(scene, *seed, &clients, options.trace));
    let names: Vec<&str> = scenes.iter().map(|scene| scene.name.as_str()).collect();
    if options.json {
        println!("{:#}", report::json(&names, &runs));
    } else {
        println!("{}", report::table(&names, &runs));
    }
    let wrongs = target::wrongs(&runs);
    for wrong in &wrongs {
        eprintln!("{wrong}");
    }
    if wrongs.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// All clients in one scene with one seed; goodput in percent of the oracle's.
fn run_clients(scene: &Scene, seed: u64, clients: &[Client], trace: bool) -> Vec<Run> {
    let run = |name, client: fn(&mut World), horizon| {
        let mut world = World::new(scene, seed, horizon);
        world.trace = trace.then_some(name);
        client(&mut world);
        (figures(&world), world.measured_time())
    };
    let (known, longest) = run("oracle", oracle::run, ORACLE_DURATION_MAX);
    let best = known.clone();
    let relative = |mut figures: Figures| {
        for name in ["goodput", "others"] {
            figures.entry(name).and_modify(|goodput| *goodput *= 100.0 / best[name]);
        }
        figures
    };
    let named = |client, figures| Run { scene: scene.name.clone(), client, figures: relative(figures) };
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
