//! A low battery, as the kernel reports it: a simulated power supply in a mount namespace.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::ipc::waiting::wait_for_reason;
use crate::situations::assert_status_says;
use crate::support::daemon::{Counts, Daemon, Home};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::wait_for;

fn battery(home: &Home, percent: u8, status: &str) {
    let supply = home.path("power/BAT0");
    fs::create_dir_all(&supply).unwrap();
    for (name, text) in [("type", "Battery"), ("capacity", &percent.to_string()), ("status", status)] {
        fs::write(supply.join(name), format!("{text}\n")).unwrap();
    }
}

/// The daemon on a device with that battery.
fn start(home: Home) -> Daemon {
    let daemon = home.command();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c"]);
    command.arg(r#"mount --bind "$0" /sys/class/power_supply && exec "$@""#);
    command.arg(home.path("power")).arg(daemon.get_program()).args(daemon.get_args());
    let log = fs::File::options().append(true).open(home.path("log")).unwrap();
    command.stdin(std::process::Stdio::null()).stderr(log);
    home.start_by(command)
}

#[test]
#[ignore = "only root may mount"]
fn records_wait_on_a_low_battery_until_it_is_charged_or_a_person_asks() {
    assert!(Path::new("/sys/class/power_supply").is_dir(), "this kernel knows of power supplies");
    let server = ScriptedServer::start(Reply::correct);
    let home = Home::new(&Settings::for_server(&server.url()).with("connectivity.min_battery_percent", "20"));
    battery(&home, 19, "Discharging");
    let daemon = start(home);
    let id = daemon.enqueue_many(3).remove(0);
    let status = daemon.wait_for_phase("deferred");
    wait_for_reason(&daemon, &id, "battery");
    assert_status_says(&daemon, "battery");
    assert_eq!(status["sync"]["text"], "Waiting on purpose until the battery is charged: 3 records waiting");
    assert_eq!(server.connections(), 0);
    assert_eq!(daemon.cli(&["sync", "--wait"]).code, Some(0));
    daemon.enqueue_many(1);
    daemon.wait_for_phase("deferred");
    battery(&daemon.home, 19, "Charging");
    // In place of the kernel's event, which a file does not cause.
    daemon.signal("HUP");
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(4));
    let times_low = || daemon.log().matches("the battery is low").count();
    let before = times_low();
    battery(&daemon.home, 19, "Discharging");
    daemon.signal("HUP");
    wait_for("a low battery once more", || (times_low() > before).then_some(()));
    daemon.enqueue_many(1);
    daemon.wait_for_phase("deferred");
    battery(&daemon.home, 20, "Discharging");
    daemon.signal("HUP");
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(5));
}
