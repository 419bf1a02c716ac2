//! The typed configuration. Every default is here and in the shipped `config.toml`; a test compares the two.
//!
//! Layers, of which later ones override earlier ones: built-in defaults, files in their order, `FIELDSYNC_SECTION__KEY`
//! variables. Each value knows its source ([`ConfigSource`]).
//! Unknown keys and wrong types are reported with their position ([`parse_layers`]); values that are not allowed are
//! reported all at once ([`Config::validate`]). A loaded configuration is valid, and its addresses are normalized.

mod address;
mod check;
mod choices;
mod command_line;
mod derived;
mod error;
mod expectation;
mod files;
mod invalid_value;
mod layers;
mod level;
mod mistake;
mod source;
mod state_hint;
mod texts;
mod units;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use choices::{Compression, LogTarget, Metered, OutcomeLookup, Reading, Watch};
pub use command_line::CommandLine;
pub use derived::default_socket;
pub use error::{ConfigError, ConfigMistake};
pub use files::ConfigFiles;
pub use layers::parse_layers;
pub use level::{LevelError, read_log_filter};
pub use mistake::{TomlMistake, describe_syntax, describe_value};
pub use source::{ConfigFile, ConfigSource, ConfigSources, LoadedConfig, VARIABLE_SOURCE_PREFIX};
pub use state_hint::{StateDirHint, find_state_dir};
pub use units::{FileMode, Size, Span};
pub use values::MASK;

/// The file that is read if `--config` names none.
pub const DEFAULT_FILE: &str = "/etc/fieldsync/config.toml";

/// The directory beside it, whose `*.toml` are read after it.
pub const DROP_IN_DIRECTORY: &str = "conf.d";

/// The copy of the last valid configuration, in the state directory. It is not for people to edit.
pub const LAST_GOOD_FILE: &str = "last-good.toml";

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
    /// The whole configuration.
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
        /// `[fleet]`
        fleet: Fleet = Fleet::default(),
        /// `[device]`
        device: Device = Device::default(),
        /// `[log]`
        log: Log = Log::default(),
    }
}

section! {
    /// The server.
    Server {
        /// Base URL. It is empty until the device is set up; until then, records are kept.
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
        /// HTTP proxy: `auto` for the proxy of the environment, `none`, or a URL.
        proxy: String = "auto".into(),
        /// File that holds `user:password` for the proxy.
        proxy_credential_file: Option<PathBuf> = None,
        /// Time limit for name resolution, TCP, the proxy and TLS together.
        connect_timeout: Span = Span::secs(10),
        /// Longest time without progress while a body is sent.
        stall_timeout: Span = Span::secs(20),
        /// Longest time to send a whole body.
        send_timeout: Span = Span::secs(180),
        /// The time limit of the gateway in front of the server: how long to wait for the first byte of a response.
        request_timeout: Span = Span::secs(60),
        /// Longest time from the first byte of a response to its last.
        answer_timeout: Span = Span::secs(30),
        /// Largest response.
        max_answer_bytes: Size = Size::mib(8),
        /// How bodies are encoded.
        compression: Compression = Compression::Auto,
        /// Whether the server is asked for the outcome of a batch that is not known.
        outcome_lookup: OutcomeLookup = OutcomeLookup::Auto,
    }
}

section! {
    /// The queue.
    Queue {
        /// Its directory; else `$STATE_DIRECTORY`, else `/var/lib/fieldsync`.
        state_dir: Option<PathBuf> = None,
        /// Maximum number of waiting records.
        max_records: u64 = 5_000_000,
        /// Maximum payload bytes of waiting records.
        max_bytes: Size = Size::mib(2048),
        /// Maximum disk space of waiting records, estimated. Types, keys and rows are included.
        max_disk_bytes: Size = Size::mib(4096),
        /// Share of these limits that one user may use; root and the daemon's own user may use all.
        max_user_share: f64 = 0.75,
        /// Largest payload.
        max_record_bytes: Size = Size::mib(1),
        /// How long the receipt of a synced or discarded record is kept, if the disk has space: until then the device
        /// recognises a record with the same id.
        keep_synced: Span = Span::secs(7 * 24 * 3600),
        /// Space that is reserved for settling batches on a full disk; at most an eighth of the disk.
        disk_reserve: Size = Size::mib(8),
        /// Whether a key orders the records of all users together, instead of those of each user.
        shared_keys: bool = false,
    }
}

section! {
    /// The size of batches, and how many are under way at a time.
    Batch {
        /// Above this many waiting records the queue is large.
        large_queue_records: u64 = 100,
        /// Batch size for a large queue.
        large_queue_batch: usize = 25,
        /// Above this many waiting bytes the payload is large.
        large_payload_bytes: Size = Size::mib(1),
        /// Batch size for a large payload.
        large_payload_batch: usize = 30,
        /// Batch size in all other cases.
        standard_batch: usize = 50,
        /// Batch size while the server fails.
        micro_batch: usize = 10,
        /// Share of the time limit that is left free.
        safety_margin: f64 = 0.25,
        /// Maximum number of records in a batch, however fast the server is.
        max_batch_records: usize = 1000,
        /// Maximum payload bytes of a batch.
        max_batch_bytes: Size = Size::mib(4),
        /// Whether measured times decide the size.
        learn: bool = true,
        /// Maximum number of batches under way at a time; 1 sends one after the other.
        max_in_flight: usize = 4,
    }
}

section! {
    /// When a failed send is repeated.
    Retry {
        /// First wait.
        initial_backoff: Span = Span::secs(1),
        /// Longest wait.
        max_backoff: Span = Span::secs(15 * 60),
        /// Longest `Retry-After` that is obeyed.
        max_retry_after: Span = Span::secs(3600),
        /// Counted failures of a record alone before it is quarantined.
        quarantine_after: u32 = 2,
    }
}

section! {
    /// When sending to a failing server pauses.
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
    /// How the connection to the server is monitored.
    Connectivity {
        /// Source of link events.
        watch: Watch = Watch::Netlink,
        /// Longest random wait after a link returned, so that not all devices of a fleet send at once.
        return_jitter: Span = Span(Duration::from_millis(500)),
        /// Longest time between two probes while offline.
        probe_interval: Span = Span::secs(15),
        /// What to do on a metered link.
        metered: Metered = Metered::Sync,
        /// Below this charge nothing is sent; 0 disables the check.
        min_battery_percent: u8 = 0,
    }
}

section! {
    /// The local API.
    Ipc {
        /// Path of the socket; else `$RUNTIME_DIRECTORY/fieldsync.sock`, else `/run/fieldsync/fieldsync.sock`.
        socket: Option<PathBuf> = None,
        /// Permissions of the socket.
        socket_mode: FileMode = FileMode(0o660),
        /// Group whose members may call admin endpoints; empty for none.
        admin_group: String = String::new(),
        /// Maximum number of connections.
        max_connections: usize = 64,
        /// Maximum number of event streams.
        max_event_streams: usize = 48,
        /// Largest request.
        max_request_bytes: Size = Size::mib(16),
        /// Longest pause of a caller while it sends its request or reads the response.
        stall_timeout: Span = Span::secs(30),
    }
}

section! {
    /// The page for a browser on the device.
    Web {
        /// Address and port, local to this device; empty for no page.
        listen: String = String::new(),
        /// File with the code that allows changes; without it, the page is read-only.
        token_file: Option<PathBuf> = None,
        /// Who may read.
        reading: Reading = Reading::Open,
        /// Maximum number of connections; half of them may follow events.
        max_connections: usize = 16,
    }
}

section! {
    /// Measurements and alerts.
    Telemetry {
        /// The period that `telemetry` covers.
        window: Span = Span::secs(7 * 24 * 3600),
        /// Base URL of an OTLP collector; empty for none.
        otlp_url: String = String::new(),
        /// File with header lines for the collector; else the systemd credential `fieldsync-otlp-headers`.
        otlp_headers_file: Option<PathBuf> = None,
        /// Shortest time between two pushes to the collector.
        otlp_interval: Span = Span::secs(60),
        /// Alert if this share of the queue's limits is used. Zero turns this alert off, as for all of them.
        alert_queue_percent: u8 = 80,
        /// Alert if this many records need review.
        alert_quarantined: u64 = 1,
        /// Alert if the oldest waiting record is older.
        alert_oldest_pending: Span = Span::secs(24 * 3600),
        /// Alert if the circuit breaker is open for longer.
        alert_breaker_open: Span = Span::secs(30 * 60),
        /// Alert if the outcome of this share of the batches of the last hour was not known.
        alert_ambiguous_percent: u8 = 20,
        /// Alert if the server did not respond for longer while records waited.
        alert_no_contact: Span = Span::secs(3 * 24 * 3600),
        /// Alert if the disk of the queue has less space.
        alert_disk_free: Size = Size::mib(64),
        /// Alert if the clock differs from the server's by more.
        alert_clock_offset: Span = Span::secs(2 * 60),
        /// Alert if the credential expires earlier than this.
        alert_credential_expiry: Span = Span::secs(14 * 24 * 3600),
        /// Alert after this many unexpected restarts in a day.
        alert_restarts: u32 = 5,
        /// Program that gets each alert.
        alert_command: Option<CommandLine> = None,
        /// How long it may run.
        alert_command_timeout: Span = Span::secs(30),
    }
}

section! {
    /// What the operator of a fleet learns of this device.
    Fleet {
        /// Longest time between two reports of the device's status to its server; zero for no reports.
        heartbeat: Span = Span::secs(6 * 3600),
    }
}

section! {
    /// This device among others.
    Device {
        /// Its name for people; else the name of the host.
        name: Option<String> = None,
    }
}

section! {
    /// Logs.
    Log {
        /// The destination.
        target: LogTarget = LogTarget::Auto,
        /// The level: error, warn, info, debug or trace, or a filter of tracing-subscriber.
        level: String = "info".into(),
    }
}
