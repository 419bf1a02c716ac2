//! Events with an explanation in the journal, each with an id that never changes: `MESSAGE_ID=`.
//!
//! The name of such an event is its id, as in `tracing::info!(name: journal::READY, …)`. `journalctl -x`
//! looks the id up in `systemd/fieldsync.catalog`, which says what happened, what it means for the records, and what
//! to do. Other programs find the entries with `journalctl MESSAGE_ID=…`. If the meaning changes, a new id is needed.

macro_rules! messages {
    ($($(#[$what:meta])* $name:ident = $id:literal;)*) => {
        $($(#[$what])* pub const $name: &str = $id;)*

        /// All of them.
        pub const MESSAGES: &[(&str, &str)] = &[$((stringify!($name), $name)),*];
    };
}

messages! {
    /// The daemon is ready.
    READY = "a73fad086c2f4575b719f1cc0707d2c8";
    /// The daemon was asked to stop.
    STOPPING = "7747ff8dcfb94de997c3d9eaebcd0c98";
    /// A bug ends the daemon.
    BUG = "20318ac2d6944c0f9f7d2d42c210bec4";
    /// Another daemon uses the state directory or the socket.
    ANOTHER_DAEMON = "933385b001ef4468ba04f0f2dcde6f8a";
    /// An actor does not respond.
    ACTOR_STUCK = "a6b7d613161c43f389b29d8d712a1849";
    /// The configuration was read again.
    RELOADED = "ea080eca8d55464dabe9b69ea990573b";
    /// The new configuration was refused.
    RELOAD_REFUSED = "618abdca569441d88115d1ea62a57990";
    /// The configuration at the start was refused, and the last good one is used.
    STARTED_WITH_LAST_GOOD = "46bcf7c39c78485ab7d20fd92cbf879a";
    /// A changed key takes effect at the next start.
    NEEDS_RESTART = "dc30d48950d746918888165f095f388e";
    /// Nothing can be sent with this configuration of the server.
    MISCONFIGURED = "6e0c8c7b1037420f8e71c83589697612";
    /// The server does not accept the credential, or there is none.
    AUTH_REQUIRED = "60539ec7c43a4ab9b30c413227b39e4c";
    /// The server cannot be reached.
    OFFLINE = "d6f32bbd07374c288890a0c5ef57fc26";
    /// The server can be reached again.
    ONLINE = "bde2e7fc87814339a63b31e9cbe478c4";
    /// A captive portal responds instead of the server.
    CAPTIVE_PORTAL = "32f3f1142b16477b8dc0b2476f5dd152";
    /// The server fails: the daemon pauses or sends small batches.
    BREAKER_OPENED = "38f5455ddf0e49598a611504be8c75c8";
    /// Batches have their usual sizes again.
    SERVER_RECOVERED = "922ebd33a11a4302a860008ed26f9f0b";
    /// The number of batches that may be under way at once changed.
    IN_FLIGHT_LIMIT_CHANGED = "5d0f3c1e8a7b4f6e9c2d7a41b86e3f90";
    /// The server responded to a batch.
    BATCH_ANSWERED = "0c6f0423bfa54bcf9aba493128e4a15d";
    /// A send of a batch failed.
    BATCH_FAILED = "b18c00093bde4dbab6d246bffdbf193d";
    /// The outcome of a batch was looked up.
    BATCH_LOOKED_UP = "02354d6a4976441b9ed79523781598a4";
    /// A batch was split.
    BATCH_DIVIDED = "c110de0adea14f928ba4d192015751e7";
    /// A record was quarantined, by the daemon or by a person.
    RECORD_QUARANTINED = "4917d2fc6f6340cc956c8885ed08e8c6";
    /// Records need review.
    NEEDS_REVIEW = "3b1bf0b6c7144860b045a7a4c06fe9d8";
    /// The oldest record has waited for a long time.
    RECORDS_WAIT = "3780f96573f44b39835bff97d8538ba5";
    /// The queue is near its limits.
    QUEUE_FILLING = "cc8d14fe5f104d8e9737f4627a3ee6bc";
    /// The token is sent unencrypted.
    TOKEN_IN_CLEAR = "482c9a0c7e1448d7820d4ad5d1b81784";
    /// The disk is full: no new records are accepted.
    DISK_FULL = "f3dfe779dfa54680b6f73b90f3e49a87";
    /// The disk has space: records are accepted again.
    DISK_SPACE_RECOVERED = "f47899a51f3f448fb58ca03f2033a6cf";
    /// The disk reports errors: no records are accepted or sent.
    DISK_FAILING = "438122fe4e714d06b0f4b524a62628d3";
    /// The disk works again.
    DISK_RECOVERED = "3c4161b167c64bb78355f7bae4dbbc41";
    /// The daemon ends because of its disk.
    DISK_GIVEN_UP = "c47706cea6c34e968455ccbec659ccb7";
    /// The store cannot be opened.
    STORE_UNUSABLE = "d777076ecf284deea1a983c81a195207";
    /// A newer version wrote it.
    STORE_NEWER = "b8ffc9c61bce4d75a642f5c9d83d0b5b";
    /// The store is damaged; its readable records are in the queue.
    STORE_DAMAGED = "80688d6624734d1d9b50449dfefe3d46";
    /// An accepted record was lost by the damage.
    RECORD_LOST = "804c8abe669d42e8a43eccc4277f7e35";
    /// The server has failed for a long time.
    BREAKER_STAYS_OPEN = "4ba71ab7ac0544a5acc6be1805fdf179";
    /// Many batches end without a clear outcome.
    AMBIGUOUS_ANSWERS = "0b8e90e9f6464d5faae85d0928398f9f";
    /// The disk of the queue has little free space.
    DISK_LOW = "c4e08e67b822463bae6980ee651011cb";
    /// The token or the client certificate expires soon, or has expired.
    CREDENTIAL_EXPIRES = "a02bff2f31bf46afa8b58ab4d47a9a78";
    /// The server does not accept the credential for some time.
    CREDENTIAL_REFUSED = "25318bf27b884975a414f6b506d002db";
    /// The clock of the device differs from the server's.
    CLOCK_OFFSET = "87a152f460ca46fead3db70b0d99ed20";
    /// The server has not responded for a long time.
    NO_CONTACT = "e7fb3f46c9374388a67dd69a83f614dc";
    /// The daemon restarts often.
    RESTARTS = "9d4615766cd44f91ada536a3a434d6f9";
    /// Everything, or a set of records, is denied for a long time.
    SENDING_DENIED = "9eb22b5a9059486aad97fce60131d9b6";
    /// An alert has ended.
    ALERT_ENDED = "3ddab6b5edb64e2fad8eb596c8965f78";
    /// The program that gets the alerts failed.
    ALERT_COMMAND_FAILED = "3ce1b34701874c05a0cc76289bd7f38b";
}
