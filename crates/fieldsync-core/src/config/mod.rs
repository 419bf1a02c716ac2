//! The configuration: typed, with every default here and in the shipped `config.toml`
//! (a test holds the two together).
//!
//! Layers, later ones win: built-in defaults, the file, `FIELDSYNC_SECTION__KEY` variables.
//! Unknown keys and wrong types are refused where they stand ([`load`]); impossible values are
//! all reported at once ([`Config::validate`]). A configuration that was loaded is valid, and its addresses are in
//! the form in which they are used.

mod address;
mod check;
mod layers;
mod level;
mod mistake;
mod texts;
mod units;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use layers::{ConfigError, parse_layers};
pub use level::{LevelError, read_log_filter};
pub use units::{Mode, Size, Span};

/// The file that is read when `--config` names none.
pub const DEFAULT_FILE: &str = "/etc/fieldsync/config.toml";

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident : $type:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

section! {
    /// All of it.
    Config {
        /// `[server]`
        server: Server = Server::default(),
        /// `[queue]`
        queue: Queue = Queue::default(),
        /// `[batch]`
        batch: Batch = Batch::default(),
        /// `[retry]`
        retry: Retry = Retry::default(),
        /// `[breaker]`
        breaker: Breaker = Breaker::default(),
        /// `[connectivity]`
        connectivity: Connectivity = Connectivity::default(),
        /// `[ipc]`
        ipc: Ipc = Ipc::default(),
        /// `[web]`
        web: Web = Web::default(),
        /// `[telemetry]`
        telemetry: Telemetry = Telemetry::default(),
        /// `[log]`
        log: Log = Log::default(),
    }
}

section! {
    /// Where records go.
    Server {
        /// Base URL; empty until the device is set up: records are kept meanwhile.
        url: String = String::new(),
        /// Path of the batch endpoint.
        path: String = "/crm/v2/mobile/sync/batch".into(),
        /// File that holds the bearer token; else the systemd credential `fieldsync-token`.
        token_file: Option<PathBuf> = None,
        /// PEM file of authorities to trust instead of the system's.
        ca_file: Option<PathBuf> = None,
        /// PEM file of the client certificate.
        client_cert_file: Option<PathBuf> = None,
        /// PEM file of the client certificate's key.
        client_key_file: Option<PathBuf> = None,
        /// The way through an HTTP proxy: `auto` for what the environment says, `none`, or its URL.
        proxy: String = "auto".into(),
        /// File that holds `user:password` for the proxy.
        proxy_credential_file: Option<PathBuf> = None,
        /// Name resolution, TCP, the proxy and TLS together.
        connect_timeout: Span = Span::secs(10),
        /// Longest time without progress while a body goes out.
        stall_timeout: Span = Span::secs(20),
        /// Longest time for a whole body to go out.
        send_timeout: Span = Span::secs(180),
        /// The time limit of the gateway in front of the server: so long the answer's first byte is waited for.
        request_timeout: Span = Span::secs(60),
        /// From the answer's first byte to its last.
        answer_timeout: Span = Span::secs(30),
        /// Largest answer that is read.
        max_answer_bytes: Size = Size::mib(8),
        /// How bodies are encoded.
        compression: Compression = Compression::Auto,
        /// Whether the outcome of an unclear batch is looked up.
        outcome_lookup: OutcomeLookup = OutcomeLookup::Auto,
    }
}

section! {
    /// What is kept.
    Queue {
        /// Where; else `$STATE_DIRECTORY`, else `/var/lib/fieldsync`.
        state_dir: Option<PathBuf> = None,
        /// Most records that may wait.
        max_records: u64 = 5_000_000,
        /// Most payload bytes that may wait.
        max_bytes: Size = Size::mib(2048),
        /// Most disk that waiting records may take, estimated: types, keys and rows count, too.
        max_disk_bytes: Size = Size::mib(4096),
        /// Share of these limits that one user may fill; root and the daemon's own user may fill all of them.
        max_user_share: f64 = 0.75,
        /// Largest payload.
        max_record_bytes: Size = Size::mib(1),
        /// How long the receipt of a synced record stays, where the disk has room: so long a record with the
        /// same id is recognised on the device.
        keep_synced: Span = Span::secs(7 * 24 * 3600),
        /// Room that is held back for settling when the disk is full; an eighth of the disk at most.
        disk_reserve: Size = Size::mib(8),
        /// Whether a key is one order for all users, instead of one for each user.
        shared_keys: bool = false,
    }
}

section! {
    /// How large batches are.
    Batch {
        /// Above this many waiting records the queue is large.
        large_queue_records: u64 = 100,
        /// Batch size for a large queue.
        large_queue_batch: usize = 25,
        /// Above this many waiting bytes the payload is large.
        large_payload_bytes: Size = Size::mib(1),
        /// Batch size for a large payload.
        large_payload_batch: usize = 30,
        /// Batch size else.
        standard_batch: usize = 50,
        /// Batch size when the server struggles.
        micro_batch: usize = 10,
        /// Share of the time limit that is left free.
        safety_margin: f64 = 0.25,
        /// Most records in a batch, however quick the server is.
        max_batch_records: usize = 1000,
        /// Most payload bytes in a batch.
        max_batch_bytes: Size = Size::mib(4),
        /// Whether measured times decide the size.
        learn: bool = true,
    }
}

section! {
    /// When a failure is tried again.
    Retry {
        /// First wait.
        initial_backoff: Span = Span::secs(1),
        /// Longest wait.
        max_backoff: Span = Span::secs(15 * 60),
        /// Longest `Retry-After` that is obeyed.
        max_retry_after: Span = Span::secs(3600),
        /// Counted failures alone before a record is quarantined.
        quarantine_after: u32 = 2,
    }
}

section! {
    /// When a struggling server is spared.
    Breaker {
        /// Consecutive failures until micro-batches.
        micro_after: u32 = 3,
        /// Further consecutive failures until a pause.
        open_after: u32 = 2,
        /// Successes until normal sizes.
        close_after: u32 = 3,
        /// First pause.
        open_min: Span = Span::secs(30),
        /// Longest pause.
        open_max: Span = Span::secs(600),
    }
}

section! {
    /// How the way to the server is watched.
    Connectivity {
        /// Source of link events.
        watch: Watch = Watch::Netlink,
        /// Longest random wait after a link returned, so that a fleet does not come all at once.
        return_jitter: Span = Span(Duration::from_millis(500)),
        /// Longest time between two probes while offline.
        probe_interval: Span = Span::secs(15),
        /// What to do on a metered link.
        metered: Metered = Metered::Sync,
        /// Below this charge nothing is sent; 0 for never.
        min_battery_percent: u8 = 0,
    }
}

section! {
    /// The local API.
    Ipc {
        /// Path of the socket; else `$RUNTIME_DIRECTORY/fieldsync.sock`, else `/run/fieldsync/fieldsync.sock`.
        socket: Option<PathBuf> = None,
        /// Permissions of the socket.
        socket_mode: Mode = Mode(0o660),
        /// Group whose members may call admin endpoints; empty for none.
        admin_group: String = String::new(),
        /// Most connections at once.
        max_connections: usize = 64,
        /// Most readers of events at once.
        max_event_streams: usize = 48,
        /// Largest request.
        max_request_bytes: Size = Size::mib(16),
        /// Longest pause of a caller in the body of its request, and in reading its answer.
        stall_timeout: Span = Span::secs(30),
    }
}

section! {
    /// The page for a browser on the device.
    Web {
        /// Address and port, of this device alone; empty for no page.
        listen: String = String::new(),
        /// File that holds the code with which the page changes something; without it, it only shows.
        token_file: Option<PathBuf> = None,
        /// Who may read.
        reading: Reading = Reading::Open,
        /// Most connections at once; half of them may follow what happens.
        max_connections: usize = 16,
    }
}

section! {
    /// What is measured.
    Telemetry {
        /// How far back `telemetry` looks.
        window: Span = Span::secs(7 * 24 * 3600),
        /// Alert when this share of the queue's limits is used.
        alert_queue_percent: u8 = 80,
        /// Alert when this many records need review.
        alert_quarantined: u64 = 1,
        /// Alert when the oldest waiting record is older.
        alert_oldest_pending: Span = Span::secs(24 * 3600),
    }
}

section! {
    /// Logs.
    Log {
        /// Where to.
        target: LogTarget = LogTarget::Auto,
        /// How much: error, warn, info, debug or trace, or a filter of tracing-subscriber.
        level: String = "info".into(),
    }
}

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }
    };
}

choice! {
    /// How bodies are encoded.
    Compression {
        /// What the server says it takes.
        Auto,
        /// Always zstd.
        Zstd,
        /// Always gzip.
        Gzip,
        /// Never.
        None,
    }
}

choice! {
    /// Whether outcomes are looked up.
    OutcomeLookup {
        /// Where the server has look-up.
        Auto,
        /// Never.
        Off,
    }
}

choice! {
    /// Source of link events.
    Watch {
        /// The kernel's.
        Netlink,
        /// Probes while offline.
        Poll,
        /// Traffic alone.
        None,
    }
}

choice! {
    /// What to do on a metered link.
    Metered {
        /// Sync all the same.
        Sync,
        /// Wait for another.
        Defer,
    }
}

choice! {
    /// Who may read the page.
    Reading {
        /// Whoever uses this device.
        Open,
        /// Who knows the code.
        Token,
    }
}

choice! {
    /// Where logs go.
    LogTarget {
        /// To journald as a service, else to stderr.
        Auto,
        /// To journald.
        Journald,
        /// To stderr.
        Stderr,
    }
}

impl Web {
    /// Where the page is served; none for no page.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listen.parse().ok()
    }
}

/// One connection in so many is for calls alone.
const FOR_CALLS: usize = 4;

impl Ipc {
    /// How many readers of events there may be, so that some connections are left for calls.
    pub fn event_streams(&self) -> usize {
        let left = self.max_connections.saturating_sub(self.max_connections.div_ceil(FOR_CALLS));
        self.max_event_streams.min(left.max(1))
    }
}

impl Server {
    /// Whether what is sent to the server leaves this device, and everyone on the way can read it.
    pub fn is_unencrypted(&self) -> bool {
        address::is_unencrypted(&self.url)
    }

    /// The addresses as they are used; those that cannot be used stay.
    fn normalize_addresses(&mut self) {
        for (text, read) in [
            (&mut self.url, address::read_server_url as fn(&str) -> Result<String, String>),
            (&mut self.proxy, address::read_proxy_url),
        ] {
            if let Ok(used) = read(text) {
                *text = used;
            }
        }
    }
}

impl Config {
    /// Where the queue lives.
    pub fn state_dir(&self) -> PathBuf {
        self.queue
            .state_dir
            .clone()
            .or_else(|| first_directory("STATE_DIRECTORY"))
            .unwrap_or_else(|| PathBuf::from("/var/lib/fieldsync"))
    }

    /// Where the local API listens.
    pub fn socket(&self) -> PathBuf {
        self.ipc.socket.clone().unwrap_or_else(default_socket)
    }

    /// The time a batch may take: the gateway's limit less the margin.
    pub fn time_budget(&self) -> Duration {
        self.server.request_timeout.0.mul_f64(1.0 - self.batch.safety_margin)
    }

    /// As TOML, for `--check-config`. There are no secrets in it: tokens live in files of their own.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| format!("# cannot be printed: {error}\n"))
    }
}

/// The socket when nothing names one.
pub fn default_socket() -> PathBuf {
    first_directory("RUNTIME_DIRECTORY")
        .unwrap_or_else(|| PathBuf::from("/run/fieldsync"))
        .join("fieldsync.sock")
}

/// systemd lists several directories with colons; the first is ours.
fn first_directory(variable: &str) -> Option<PathBuf> {
    let value = std::env::var_os(variable)?;
    std::env::split_paths(&value).next().filter(|path| path.is_absolute())
}
