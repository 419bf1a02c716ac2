//! A link that can be pulled: a device and its server in network namespaces of their own, with a veth pair between them.
//!
//! The thread of the test itself stands on the server's side: servers that it starts, and whatever it asks
//! them, are there, while the daemon is started on the device's. The server's address lies behind a
//! gateway, as in the field, so that a route can be lost while the link is there. Needs root.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

use super::daemon::{Daemon, Home};
use super::process::run;

/// Where the server is: an address that is nobody's (RFC 5737), behind [`GATEWAY`].
pub(crate) const SERVER: &str = "192.0.2.1:8080";
const SERVER_HOST: &str = "192.0.2.1/32";
/// The server's end of the link.
pub(crate) const GATEWAY: &str = "10.77.0.1";
/// The device's end of the link.
pub(crate) const DEVICE: &str = "10.77.0.2";
pub(crate) const OTHER_DEVICE: &str = "10.77.0.3";
/// The name of either end, each in its namespace.
const LINK: &str = "uplink";
const PREFIX: &str = "fieldsync-lab";

static LABS: AtomicU32 = AtomicU32::new(0);

/// The two sides; gone when dropped, as is whatever a killed run left behind by the next lab.
pub(crate) struct Lab {
    device: String,
    server: String,
    /// Where the test's thread belongs.
    home: File,
    /// A thread stands in a namespace, and it has to be the one that goes back.
    _of_one_thread: PhantomData<*const ()>,
}

impl Lab {
    /// Both sides, and a link that is up.
    pub(crate) fn new() -> Self {
        clear_away();
        let (process, count) = (std::process::id(), LABS.fetch_add(1, Ordering::SeqCst));
        let name = |side: &str| format!("{PREFIX}-{process}-{count}-{side}");
        let lab = Self {
            device: name("device"),
            server: name("server"),
            home: File::open("/proc/thread-self/ns/net").unwrap(),
            _of_one_thread: PhantomData,
        };
        lab.name_nothing();
        ip(&format!("netns add {}", lab.device));
        ip(&format!("netns add {}", lab.server));
        lab.on_device(&format!("link add {LINK} type veth peer name {LINK} netns {}", lab.server));
        lab.on_device("link set lo up");
        lab.on_server("link set lo up");
        lab.on_server(&format!("addr add {SERVER_HOST} dev lo"));
        lab.on_server(&format!("addr add {GATEWAY}/24 dev {LINK}"));
        lab.on_server(&format!("link set {LINK} up"));
        lab.give_address(DEVICE);
        lab.up();
        enter(&File::open(format!("/run/netns/{}", lab.server)).unwrap());
        lab
    }

    /// `ip` with these arguments, on the device's side.
    pub(crate) fn on_device(&self, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.device));
    }

    /// `ip` with these arguments, on the server's side.
    pub(crate) fn on_server(&self, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.server));
    }

    /// A daemon on the device's side.
    pub(crate) fn start(&self, home: Home) -> Daemon {
        let daemon = home.command();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.device]).arg(daemon.get_program()).args(daemon.get_args());
        for (variable, value) in daemon.get_envs() {
            match value {
                Some(value) => command.env(variable, value),
                None => command.env_remove(variable),
            };
        }
        let log = File::options().append(true).open(home.path("log")).unwrap();
        command.stdin(Stdio::null()).stderr(log);
        home.start_by(command)
    }

    /// How often the daemon began to make a connection, with a route or without, as its log tells.
    pub(crate) fn connections_tried(daemon: &Daemon) -> usize {
        daemon.log().matches("connecting to ").count()
    }

    /// The device switches its link off. Its routes go with it.
    pub(crate) fn down(&self) {
        self.on_device(&format!("link set {LINK} down"));
    }

    /// The device switches its link on, and gets its route, as from DHCP.
    pub(crate) fn up(&self) {
        self.on_device(&format!("link set {LINK} up"));
        self.give_route();
    }

    /// Somebody pulls the cable at the other end. The device keeps its routes, which lead nowhere.
    pub(crate) fn unplug(&self) {
        self.on_server(&format!("link set {LINK} down"));
    }

    pub(crate) fn plug_in(&self) {
        self.on_server(&format!("link set {LINK} up"));
    }

    pub(crate) fn give_route(&self) {
        self.on_device(&format!("route replace default via {GATEWAY}"));
    }

    pub(crate) fn take_route(&self) {
        self.on_device("route del default");
    }

    /// By another gateway, that is not there.
    pub(crate) fn mislead_route(&self) {
        self.on_device("route replace default via 10.77.0.254");
    }

    pub(crate) fn give_address(&self, address: &str) {
        self.on_device(&format!("addr add {address}/24 dev {LINK}"));
    }

    /// The routes by it go, too.
    pub(crate) fn take_address(&self, address: &str) {
        self.on_device(&format!("addr del {address}/24 dev {LINK}"));
    }

    /// Whatever the server's side sends to the device vanishes, acknowledgements included.
    pub(crate) fn swallow_answers(&self) {
        self.on_server(&format!("route add blackhole {DEVICE}/32"));
    }

    pub(crate) fn let_answers_through(&self) {
        self.on_server(&format!("route del blackhole {DEVICE}/32"));
    }

    /// Whatever is sent to the server vanishes, and nobody says so.
    pub(crate) fn hide_server(&self) {
        self.on_server(&format!("addr del {SERVER_HOST} dev lo"));
    }

    pub(crate) fn show_server(&self) {
        self.on_server(&format!("addr add {SERVER_HOST} dev lo"));
    }

    /// The device sends no more than this, in kilobits a second.
    pub(crate) fn slow_down(&self, kbit: u32) {
        let shape = format!(
            "-n {} qdisc add dev {LINK} root tbf rate {kbit}kbit burst 3kb latency 500ms",
            self.device
        );
        done(Command::new("tc").args(shape.split(' ')));
    }

    /// The device knows the server by this name.
    pub(crate) fn name_server(&self, name: &str) {
        self.name_address(name, SERVER.split_once(':').unwrap().0);
    }

    /// The device knows this address by this name.
    pub(crate) fn name_address(&self, name: &str, address: &str) {
        // Rewritten, and not replaced: the file itself is mounted over the one of the machine.
        fs::write(self.names().join("hosts"), format!("127.0.0.1 localhost\n{address} {name}\n")).unwrap();
    }

    /// The device knows no names, and nobody whom it could ask.
    fn name_nothing(&self) {
        fs::create_dir_all(self.names()).unwrap();
        fs::write(self.names().join("hosts"), "127.0.0.1 localhost\n").unwrap();
        fs::write(self.names().join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    }

    /// What `ip netns exec` mounts over `/etc`.
    fn names(&self) -> PathBuf {
        names_of(&self.device)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        enter(&self.home);
        for namespace in [&self.device, &self.server] {
            remove(namespace);
        }
    }
}

fn names_of(namespace: &str) -> PathBuf {
    PathBuf::from("/etc/netns").join(namespace)
}

/// The thread is in that namespace from now on, and so is what it starts.
fn enter(namespace: &File) {
    setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
}

fn ip(arguments: &str) {
    done(Command::new("ip").args(arguments.split(' ')));
}

#[track_caller]
fn done(command: &mut Command) {
    let ran = run(command, b"");
    assert_eq!(ran.code, Some(0), "{command:?}: {}", ran.stderr);
}

/// It may be there in part only.
fn remove(namespace: &str) {
    drop(run(Command::new("ip").args(["netns", "del", namespace]), b""));
    drop(fs::remove_dir_all(names_of(namespace)));
}

/// What processes left behind that were killed.
fn clear_away() {
    let namespaces = match fs::read_dir("/run/netns") {
        Ok(namespaces) => namespaces,
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        Err(error) => panic!("{error}"),
    };
    for namespace in namespaces {
        let name = namespace.unwrap().file_name().into_string().unwrap();
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').nth(1));
        if process.is_some_and(|process| !PathBuf::from("/proc").join(process).exists()) {
            let inside = run(Command::new("ip").args(["netns", "pids", &name]), b"").stdout;
            for orphan in inside.split_whitespace() {
                drop(run(Command::new("kill").args(["-9", orphan]), b""));
            }
            remove(&name);
        }
    }
}
