//! The keys whose values are one of a few words.

use serde::{Deserialize, Serialize};

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
        /// What the server accepts.
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
    /// Whether outcomes are queried.
    OutcomeLookup {
        /// If the server supports outcome queries.
        Auto,
        /// Never.
        Off,
    }
}

choice! {
    /// Source of link events.
    Watch {
        /// The kernel.
        Netlink,
        /// Probes while offline.
        Poll,
        /// Only traffic.
        None,
    }
}

choice! {
    /// What to do on a metered link.
    Metered {
        /// Sync regardless.
        Sync,
        /// Wait for another network.
        Defer,
    }
}

choice! {
    /// Who may read the page.
    Reading {
        /// Every user of this device.
        Open,
        /// Users who know the code.
        Token,
    }
}

choice! {
    /// The destination of logs.
    LogTarget {
        /// To journald as a service, else to stderr.
        Auto,
        /// To journald.
        Journald,
        /// To stderr.
        Stderr,
    }
}
