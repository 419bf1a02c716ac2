//! A metered network, as NetworkManager reports it: a simulated one, on a private bus.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;

use serde_json::json;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use zbus::connection;

use crate::ipc::waiting::wait_for_reason;
use crate::situations::assert_status_says;
use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::process::Guard;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::directory;

const PATH: &str = "/org/freedesktop/NetworkManager";
const METERED: u32 = 1;
const UNMETERED: u32 = 2;
const UNKNOWN: u32 = 0;

struct NetworkManager(u32);

#[zbus::interface(name = "org.freedesktop.NetworkManager")]
impl NetworkManager {
    #[zbus(property)]
    fn metered(&self) -> u32 {
        self.0
    }
}

/// A private bus.
struct Bus {
    address: String,
    _daemon: Guard,
    _directory: TempDir,
}

impl Bus {
    fn start() -> Self {
        let directory = directory();
        let listen = format!("unix:path={}", directory.path().join("bus").display());
        let mut child = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--print-address", "--address", &listen])
            .stdout(Stdio::piped())
            .spawn()
            .expect("dbus-daemon is installed");
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { address: address.trim().to_owned(), _daemon: Guard(child), _directory: directory }
    }

    /// A NetworkManager that reports this value, then each value that is sent. It leaves the bus when the sender is
    /// dropped.
    fn manager(&self, metered: u32) -> mpsc::Sender<u32> {
        let (sender, mut values) = mpsc::channel(1);
        let (ready, is_ready) = oneshot::channel();
        let address = self.address.clone();
        let serve = async move {
            let builder =
                connection::Builder::address(address.as_str()).serve_at(PATH, NetworkManager(metered));
            let bus = builder.name("org.freedesktop.NetworkManager").build().await?;
            ready.send(()).unwrap();
            let manager = bus.object_server().interface::<_, NetworkManager>(PATH).await?;
            while let Some(metered) = values.recv().await {
                manager.get_mut().await.0 = metered;
                manager.get().await.metered_changed(manager.signal_emitter()).await?;
            }
            zbus::Result::Ok(())
        };
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve).unwrap();
        });
        is_ready.blocking_recv().unwrap();
        sender
    }

    fn daemon(&self, settings: &Settings) -> Daemon {
        let home = Home::new(settings);
        let mut command = home.command();
        command.env("DBUS_SYSTEM_BUS_ADDRESS", &self.address);
        home.start_by(command)
    }
}

fn is_metered(daemon: &Daemon, metered: bool) {
    daemon.wait_until("news of the network", |status| status["connectivity"]["metered"] == metered);
}

#[test]
#[ignore = "needs dbus-daemon"]
fn records_wait_on_a_metered_network_until_there_is_another() {
    let (bus, server) = (Bus::start(), ScriptedServer::start(Reply::correct));
    let manager = bus.manager(METERED);
    let daemon = bus.daemon(&Settings::for_server(&server.url()).with("connectivity.metered", "defer"));
    // Nothing is sent before it is known whether the network is metered.
    let id = daemon.enqueue_many(3).remove(0);
    is_metered(&daemon, true);
    let status = daemon.wait_for_phase("deferred");
    wait_for_reason(&daemon, &id, "metered");
    assert_status_says(&daemon, "metered");
    assert_eq!(
        status["sync"]["text"],
        "Waiting on purpose because the network is metered: 3 records waiting"
    );
    assert_eq!(server.connections(), 0);
    manager.blocking_send(UNMETERED).unwrap();
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
    assert_eq!(daemon.status()["connectivity"]["metered"], json!(false));
}

#[test]
#[ignore = "needs dbus-daemon"]
fn a_person_ends_the_deferral_once() {
    let (bus, server) = (Bus::start(), ScriptedServer::start(Reply::correct));
    let _manager = bus.manager(METERED);
    let daemon = bus.daemon(&Settings::for_server(&server.url()).with("connectivity.metered", "defer"));
    is_metered(&daemon, true);
    daemon.enqueue_many(3);
    daemon.wait_for_phase("deferred");
    assert_eq!(daemon.cli(&["sync", "--wait"]).code, Some(0));
    assert_eq!(daemon.counts(), Counts::all_synced(3));
    daemon.enqueue_many(1);
    daemon.wait_for_phase("deferred");
    assert_eq!(server.sizes(), [3]);
}

#[test]
#[ignore = "needs dbus-daemon"]
fn the_status_reports_a_metered_network_even_if_nothing_is_deferred() {
    let (bus, server) = (Bus::start(), ScriptedServer::start(Reply::correct));
    let _manager = bus.manager(METERED);
    let daemon = bus.daemon(&Settings::for_server(&server.url()));
    is_metered(&daemon, true);
    daemon.enqueue_many(3);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
}

#[test]
#[ignore = "needs dbus-daemon"]
fn networkmanager_may_start_late_or_stop_and_unknown_networks_defer_nothing() {
    let (bus, server) = (Bus::start(), ScriptedServer::start(Reply::correct));
    let daemon = bus.daemon(&Settings::for_server(&server.url()).with("connectivity.metered", "defer"));
    daemon.enqueue_many(1);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(1));
    let manager = bus.manager(METERED);
    is_metered(&daemon, true);
    daemon.enqueue_many(1);
    daemon.wait_for_phase("deferred");
    drop(manager);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(2));
    is_metered(&daemon, false);
    // The next one reports "unknown", and the value of the last one no longer applies.
    let _another = bus.manager(UNKNOWN);
    daemon.enqueue_many(1);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(3));
    is_metered(&daemon, false);
}
