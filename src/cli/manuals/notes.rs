//! What the definitions of the programs do not say: what an exit status means, files, examples.

/// A section of a page.
pub(super) enum Note {
    /// Terms and what they mean.
    List { heading: &'static str, entries: &'static [(&'static str, &'static str)] },
    /// What one wants, and the commands that do it.
    Examples(&'static [(&'static str, &'static str)]),
    /// Other pages.
    SeeAlso(&'static [&'static str]),
}

/// The pages that have notes of their own.
#[cfg(test)]
pub(super) const NAMES: [&str; 17] = [
    "fieldsync",
    "fieldsync-config",
    "fieldsyncd",
    "fieldsync-status",
    "fieldsync-enqueue",
    "fieldsync-list",
    "fieldsync-show",
    "fieldsync-sync",
    "fieldsync-quarantine",
    "fieldsync-quarantine-edit",
    "fieldsync-quarantine-export",
    "fieldsync-manifest-export",
    "fieldsync-store-salvage",
    "fieldsync-events",
    "fieldsync-doctor",
    "fieldsync-demo",
    "fieldsync-completions",
];

const STATUS: Note = Note::List {
    heading: "EXIT STATUS",
    entries: &[
        ("0", "Done."),
        ("1", "Failed."),
        ("2", "Wrong usage."),
        ("3", "No daemon answers at the socket."),
        ("4", "There is no such record."),
        ("5", "Not permitted."),
        ("6", "Records need review."),
        ("7", "The queue or the disk is full."),
        ("8", "The input was refused, and nothing was stored."),
    ],
};

const DOCTOR_STATUS: Note = Note::List {
    heading: "EXIT STATUS",
    entries: &[
        ("0", "No problem was found. There may be warnings, and checks that could not be made."),
        ("1", "There is a problem."),
        ("2", "Wrong usage."),
    ],
};

const DAEMON_STATUS: Note = Note::List {
    heading: "EXIT STATUS",
    entries: &[
        ("0", "It was asked to end, or the configuration was printed."),
        ("1", "It cannot start: the socket, for one, cannot be listened on."),
        ("2", "Wrong usage."),
        ("70", "A bug ended it. Started again, it recovers; no record is lost by it."),
        ("74", "The disk failed, and stayed bad."),
        ("75", "Another daemon has the state directory, or answers on the socket."),
        (
            "78",
            "The configuration is wrong, or the store was written by a newer version. Starting again does not help.",
        ),
    ],
};

const SOCKET: (&str, &str) = ("FIELDSYNC_SOCKET", "Socket of the daemon, where --socket does not name it.");
const COLOURS: (&str, &str) = ("NO_COLOR", "Set to anything but nothing, there are no colours.");
const EDITORS: (&str, &str) =
    ("VISUAL, EDITOR", "What quarantine edit opens; the first that is set, else vi.");
const DRAFTS: (&str, &str) = ("TMPDIR", "Where the text lies while it is edited; else /tmp.");
const KEPT: (&str, &str) =
    ("TMPDIR", "Where enqueue keeps what a pipe brings until it is checked; else /var/tmp.");

/// Of a verb.
fn environment(name: &str) -> Note {
    let entries: &[_] = match name {
        "fieldsync" => &[SOCKET, COLOURS, EDITORS, KEPT],
        "fieldsync-enqueue" => &[SOCKET, COLOURS, KEPT],
        "fieldsync-quarantine-edit" => &[SOCKET, COLOURS, EDITORS, DRAFTS],
        _ => &[SOCKET, COLOURS],
    };
    Note::List { heading: "ENVIRONMENT", entries }
}

const DAEMON_ENVIRONMENT: Note = Note::List {
    heading: "ENVIRONMENT",
    entries: &[
        ("FIELDSYNC_SECTION__KEY", "Wins over a key of the file, for example FIELDSYNC_SERVER__URL."),
        ("STATE_DIRECTORY, RUNTIME_DIRECTORY", "Where records and the socket are; systemd sets them."),
        ("CREDENTIALS_DIRECTORY", "Where systemd puts the credential fieldsync-token."),
        (
            "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY",
            "The way through a proxy, unless server.proxy says otherwise.",
        ),
    ],
};

const DAEMON_SIGNALS: Note = Note::List {
    heading: "SIGNALS",
    entries: &[
        ("SIGTERM, SIGINT", "The batch in flight may finish, then the daemon ends."),
        ("SIGHUP", "The configuration is read again. One that is wrong is refused, and the old one stays."),
        ("SIGUSR1", "What waits is tried now."),
    ],
};

const DAEMON_FILES: Note = Note::List {
    heading: "FILES",
    entries: &[
        ("/etc/fieldsync/config.toml", "The configuration."),
        ("/var/lib/fieldsync", "The records, closed to others."),
        ("/run/fieldsync/fieldsync.sock", "The local API: HTTP with JSON."),
    ],
};

const FILES: Note = Note::List {
    heading: "FILES",
    entries: &[("/run/fieldsync/fieldsync.sock", "Where the daemon is asked, unless told otherwise.")],
};

const ENQUEUE: Note = Note::Examples(&[
    (
        "One record from standard input:",
        "echo '{\"type\": \"Visits\", \"payload\": {\"Subject\": \"Site visit\"}}' | fieldsync enqueue",
    ),
    (
        "Bare payloads, one a line, in order for each account:",
        "fieldsync enqueue --type Visits --key-field account visits.ndjson",
    ),
]);

const REVIEW: Note = Note::Examples(&[
    ("What needs review, and why:", "fieldsync quarantine list"),
    ("Mend the payload of a record, and queue it again:", "fieldsync quarantine edit ID"),
    ("Put a record that waits under review, to mend it:", "fieldsync quarantine add ID"),
    ("Queue all of them again as they are:", "fieldsync quarantine retry --all"),
]);

/// The notes of a page.
pub(super) fn of(name: &str) -> Vec<Note> {
    let mut notes = match name {
        "fieldsyncd" => vec![
            DAEMON_SIGNALS,
            DAEMON_STATUS,
            DAEMON_ENVIRONMENT,
            DAEMON_FILES,
            Note::Examples(&[
                ("The configuration that is in effect:", "fieldsyncd --check-config"),
                ("Apply a change:", "systemctl reload fieldsync"),
                ("The whole story of one batch:", "journalctl -u fieldsync FIELDSYNC_BATCH_ID=…"),
            ]),
        ],
        "fieldsync-config" => vec![
            DAEMON_ENVIRONMENT,
            Note::Examples(&[(
                "Check a change, then apply it:",
                "fieldsyncd --check-config\nsystemctl reload fieldsync",
            )]),
        ],
        "fieldsync-doctor" => vec![
            DOCTOR_STATUS,
            Note::Examples(&[
                ("Everything, secrets and state directory among them:", "sudo fieldsync doctor"),
                (
                    "The problems alone, for a program:",
                    "fieldsync doctor --json | jq '.checks[] | select(.result == \"problem\")'",
                ),
            ]),
        ],
        _ => vec![STATUS, environment(name), FILES],
    };
    notes.extend(examples(name));
    notes.push(Note::SeeAlso(see_also(name)));
    notes
}

fn examples(name: &str) -> Option<Note> {
    Some(match name {
        "fieldsync" => Note::Examples(&[
            ("What the daemon does, as it goes on:", "fieldsync status --watch"),
            ("Send now, until nothing is left:", "fieldsync sync --wait"),
            ("What is wrong, and what to do about it:", "fieldsync doctor"),
            ("See it work, without installing anything:", "fieldsync demo"),
        ]),
        "fieldsync-status" => {
            Note::Examples(&[("The sentence alone:", "fieldsync status --json | jq -r .sync.text")])
        }
        "fieldsync-enqueue" => ENQUEUE,
        "fieldsync-list" => Note::Examples(&[
            ("What failed:", "fieldsync list --state FAILED"),
            ("What other users have under review, too:", "fieldsync list --state QUARANTINED --all"),
        ]),
        "fieldsync-show" => {
            Note::Examples(&[("All that is known of a record:", "fieldsync show --payload ID")])
        }
        "fieldsync-sync" => {
            Note::Examples(&[("Send all that waits, and wait for it:", "fieldsync sync --wait")])
        }
        "fieldsync-quarantine" => REVIEW,
        "fieldsync-quarantine-edit" => {
            Note::Examples(&[("With an editor of one's choice:", "EDITOR=nano fieldsync quarantine edit ID")])
        }
        "fieldsync-quarantine-export" => Note::Examples(&[(
            "Into a file, which is not a symbolic link:",
            "fieldsync quarantine export review.ndjson",
        )]),
        "fieldsync-manifest-export" => Note::Examples(&[(
            "Into a file, which is not a symbolic link:",
            "fieldsync manifest export manifest.ndjson",
        )]),
        "fieldsync-store-salvage" => Note::Examples(&[(
            "Read a damaged store, and enqueue what reads:",
            "fieldsync store salvage --output salvaged.ndjson FILE\nfieldsync enqueue salvaged.ndjson",
        )]),
        "fieldsync-events" => {
            Note::Examples(&[("One JSON object a line, for a program:", "fieldsync events --json")])
        }
        "fieldsync-demo" => {
            Note::Examples(&[("With records of one's own:", "fieldsync demo --input records.ndjson")])
        }
        "fieldsync-completions" => Note::Examples(&[(
            "For all users of bash:",
            "fieldsync completions bash | sudo tee /usr/share/bash-completion/completions/fieldsync",
        )]),
        _ => return None,
    })
}

fn see_also(name: &str) -> &'static [&'static str] {
    match name {
        "fieldsync" => &["fieldsync-doctor(1)", "fieldsync-config(5)", "fieldsyncd(8)"],
        "fieldsyncd" => &["fieldsync(1)", "fieldsync-config(5)", "systemctl(1)", "journalctl(1)"],
        "fieldsync-config" => &["fieldsyncd(8)", "fieldsync-doctor(1)"],
        _ => &["fieldsync(1)", "fieldsync-config(5)", "fieldsyncd(8)"],
    }
}
