//! What happens and deserves an explanation, each under an id that never changes: `MESSAGE_ID=` in the journal.
//!
//! An event with such an id has it for its name, as in `tracing::info!(name: journal::READY, …)`. `journalctl -x`
//! looks the id up in `systemd/fieldsync.catalog`, which says what happened, what it means for the records and what
//! to do; other programs find the entries by `journalctl MESSAGE_ID=…`. An id whose meaning changes is replaced.

macro_rules! messages {
    ($($(#[$what:meta])* $name:ident = $id:literal;)*) => {
        $($(#[$what])* pub const $name: &str = $id;)*

        /// All of them.
        pub const MESSAGES: &[(&str, &str)] = &[$((stringify!($name), $name)),*];
    };
}

messages! {
    /// It is ready.
    READY = "a73fad086c2f4575b719f1cc0707d2c8";
    /// It was asked to stop.
    STOPPING = "7747ff8dcfb94de997c3d9eaebcd0c98";
    /// A bug ends it.
    BUG = "20318ac2d6944c0f9f7d2d42c210bec4";
    /// Another one has the state directory or the socket.
    ANOTHER_DAEMON = "933385b001ef4468ba04f0f2dcde6f8a";
    /// An actor does not answer.
    ACTOR_STUCK = "a6b7d613161c43f389b29d8d712a1849";
    /// The configuration was read again.
    RELOADED = "ea080eca8d55464dabe9b69ea990573b";
    /// It was not, for a reason.
    RELOAD_REFUSED = "618abdca569441d88115d1ea62a57990";
    /// A key of it waits for the next start.
    NEEDS_RESTART = "dc30d48950d746918888165f095f388e";
    /// Nothing can be sent to the server as it is configured.
    MISCONFIGURED = "6e0c8c7b1037420f8e71c83589697612";
    /// The server lets nobody in with this credential, or there is none.
    AUTH_REQUIRED = "60539ec7c43a4ab9b30c413227b39e4c";
    /// The server cannot be reached.
    OFFLINE = "d6f32bbd07374c288890a0c5ef57fc26";
    /// It can.
    ONLINE = "bde2e7fc87814339a63b31e9cbe478c4";
    /// Somebody else answers in its place.
    CAPTIVE_PORTAL = "32f3f1142b16477b8dc0b2476f5dd152";
    /// The server fails: a pause, or small batches.
    SERVER_SPARED = "38f5455ddf0e49598a611504be8c75c8";
    /// Batches have their usual sizes again.
    SERVER_RECOVERED = "922ebd33a11a4302a860008ed26f9f0b";
    /// The server answered a batch.
    BATCH_ANSWERED = "0c6f0423bfa54bcf9aba493128e4a15d";
    /// A send of a batch failed.
    BATCH_FAILED = "b18c00093bde4dbab6d246bffdbf193d";
    /// What became of a batch was asked for.
    BATCH_LOOKED_UP = "02354d6a4976441b9ed79523781598a4";
    /// A batch goes on as others.
    BATCH_DIVIDED = "c110de0adea14f928ba4d192015751e7";
    /// A record was set aside, by the daemon or by a person.
    RECORD_QUARANTINED = "4917d2fc6f6340cc956c8885ed08e8c6";
    /// Records wait for somebody to look at them.
    NEEDS_REVIEW = "3b1bf0b6c7144860b045a7a4c06fe9d8";
    /// The oldest record waits for long.
    RECORDS_WAIT = "3780f96573f44b39835bff97d8538ba5";
    /// The queue comes near to its limits.
    QUEUE_FILLING = "cc8d14fe5f104d8e9737f4627a3ee6bc";
    /// Everyone on the way to the server can read the token.
    TOKEN_IN_CLEAR = "482c9a0c7e1448d7820d4ad5d1b81784";
    /// No new records are taken.
    DISK_FULL = "f3dfe779dfa54680b6f73b90f3e49a87";
    /// They are again.
    DISK_ROOMY = "f47899a51f3f448fb58ca03f2033a6cf";
    /// Nothing is taken or sent.
    DISK_FAILING = "438122fe4e714d06b0f4b524a62628d3";
    /// It is again.
    DISK_WELL = "3c4161b167c64bb78355f7bae4dbbc41";
    /// The daemon ends because of its disk.
    DISK_GIVEN_UP = "c47706cea6c34e968455ccbec659ccb7";
    /// The store cannot be opened.
    STORE_UNUSABLE = "d777076ecf284deea1a983c81a195207";
    /// A newer version wrote it.
    STORE_NEWER = "b8ffc9c61bce4d75a642f5c9d83d0b5b";
    /// It is damaged; what reads of it is in the queue.
    STORE_DAMAGED = "80688d6624734d1d9b50449dfefe3d46";
    /// A record that was accepted is lost to the damage.
    RECORD_LOST = "804c8abe669d42e8a43eccc4277f7e35";
}
