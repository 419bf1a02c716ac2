//! A link that can be pulled: a device and its server in separate network namespaces, with a veth pair between them.
//!
//! The thread of the test itself is in the server's namespace, as are the servers that it starts and its requests to
//! them. The daemon is started in the device's namespace. The server's address is behind a gateway, as in the field,
//! so that a route can be lost while the link is up. Needs root.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

use super::daemon::{Daemon, Home};
use super::process::run;

/// The address of the server, from a documentation network (RFC 5737), behind [`GATEWAY`].
pub(crate) const SERVER: &str = "192.0.2.1:8080";
const SERVER_HOST: &str = "192.0.2.1/32";
/// The server's end of the link.
pub(crate) const GATEWAY: &str = "10.77.0.1";
/// The device's end of the link.
pub(crate) const DEVICE: &str = "10.77.0.2";
pub(crate) const OTHER_DEVICE: &str = "10.77.0.3";
/// The name of both ends, each in its namespace.
const LINK: &str = "uplink";
const PREFIX: &str = "fieldsync-lab";

static LABS: AtomicU32 = AtomicU32::new(0);

/// The two namespaces, removed when dropped. Leftovers of a killed run are removed by the next lab.
pub(crate) struct Lab {
    device: String,
    server: String,
    /// The original namespace of the test's thread.
    home: File,
    /// The namespace belongs to the thread, so the same thread has to return to its original one.
    _of_one_thread: PhantomData<*const ()>,
}

impl Lab {
    /// Both namespaces, and a link that is up.
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

    /// Runs `ip` with these arguments, on the device's side.
    pub(crate) fn on_device(&self, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.device));
    }

    /// Runs `ip` with these arguments, on the server's side.
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

    /// How often the daemon started to open a connection, with a route or without, from its log.
    pub(crate) fn connections_tried(daemon: &Daemon) -> usize {
        daemon.log().matches("connecting to ").count()
    }

    /// The device switches its link off. Its routes are removed with it.
    pub(crate) fn down(&self) {
        self.on_device(&format!("link set {LINK} down"));
    }

    /// The device switches its link on, and gets its route, as from DHCP.
    pub(crate) fn up(&self) {
        self.on_device(&format!("link set {LINK} up"));
        self.give_route();
    }

    /// The cable is pulled at the other end. The device keeps its routes, which lead nowhere.
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

    /// Routes through another gateway, which does not exist.
    pub(crate) fn mislead_route(&self) {
        self.on_device("route replace default via 10.77.0.254");
    }

    pub(crate) fn give_address(&self, address: &str) {
        self.on_device(&format!("addr add {address}/24 dev {LINK}"));
    }

    /// Routes through it are removed, too.
    pub(crate) fn take_address(&self, address: &str) {
        self.on_device(&format!("addr del {address}/24 dev {LINK}"));
    }

    /// Packets from the server to the device are dropped, acknowledgements included.
    pub(crate) fn swallow_answers(&self) {
        self.on_server(&format!("route add blackhole {DEVICE}/32"));
    }

    pub(crate) fn let_answers_through(&self) {
        self.on_server(&format!("route del blackhole {DEVICE}/32"));
    }

    /// Packets to the server are dropped without an error.
    pub(crate) fn hide_server(&self) {
        self.on_server(&format!("addr del {SERVER_HOST} dev lo"));
    }

    pub(crate) fn show_server(&self) {
        self.on_server(&format!("addr add {SERVER_HOST} dev lo"));
    }

    /// The device sends at most this much, in kilobits a second.
    pub(crate) fn slow_down(&self, kbit: u32) {
        let shape = format!(
            "-n {} qdisc add dev {LINK} root tbf rate {kbit}kbit burst 3kb latency 500ms",
            self.device
        );
        run_successfully(Command::new("tc").args(shape.split(' ')));
    }

    /// The device resolves this name to the server.
    pub(crate) fn name_server(&self, name: &str) {
        self.name_address(name, SERVER.split_once(':').unwrap().0);
    }

    /// The device resolves this name to this address.
    pub(crate) fn name_address(&self, name: &str, address: &str) {
        // Rewritten, not replaced: the file itself is mounted over the one of the machine.
        fs::write(self.names().join("hosts"), format!("127.0.0.1 localhost\n{address} {name}\n")).unwrap();
    }

    /// The device resolves no names, and has no name server.
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

/// Moves the thread into that namespace, and with it the processes that it starts.
fn enter(namespace: &File) {
    setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
}

fn ip(arguments: &str) {
    run_successfully(Command::new("ip").args(arguments.split(' ')));
}

#[track_caller]
fn run_successfully(command: &mut Command) {
    let ran = run(command, b"");
    assert_eq!(ran.code, Some(0), "{command:?}: {}", ran.stderr);
}

/// Removes the namespaces, which may exist only in part.
fn remove(namespace: &str) {
    drop(run(Command::new("ip").args(["netns", "del", namespace]), b""));
    drop(fs::remove_dir_all(names_of(namespace)));
}

/// Removes what killed processes left.
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
