//! Texts that are not in the definitions of the programs: the meaning of an exit status, files, examples.

/// A section of a page.
pub(super) enum ManualNote {
    /// Terms and what they mean.
    List { heading: &'static str, entries: &'static [(&'static str, &'static str)] },
    /// A purpose, and the commands for it.
    Examples(&'static [(&'static str, &'static str)]),
    /// Other pages.
    SeeAlso(&'static [&'static str]),
}

/// Pages that have notes of their own.
#[cfg(test)]
pub(super) const PAGES_WITH_NOTES: [&str; 20] = [
    "fieldsync",
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
    "fieldsync-batches",
    "fieldsync-telemetry",
    "fieldsync-telemetry-report",
    "fieldsync-logs",
    "fieldsync-completions",
];

const EXIT_STATUS: ManualNote = ManualNote::List {
    heading: "EXIT STATUS",
    entries: &[
        ("0", "Done."),
        ("1", "Failed."),
        ("2", "Wrong usage."),
        ("3", "No daemon responds at the socket."),
        ("4", "There is no such record."),
        ("5", "Not permitted."),
        ("6", "Records need review."),
        ("7", "The queue or the disk is full."),
        ("8", "The input was refused, and nothing was stored."),
    ],
};

const DOCTOR_EXIT_STATUS: ManualNote = ManualNote::List {
    heading: "EXIT STATUS",
    entries: &[
        ("0", "No problem was found. There may be warnings, and checks that could not be made."),
        ("1", "There is a problem."),
        ("2", "Wrong usage."),
    ],
};

const DAEMON_EXIT_STATUS: ManualNote = ManualNote::List {
    heading: "EXIT STATUS",
    entries: &[
        ("0", "It was stopped, or it printed the configuration."),
        ("1", "It cannot start, for example because it cannot listen on the socket."),
        ("2", "Wrong usage."),
        ("70", "A bug ended it. It recovers when it is started again; no record is lost."),
        ("74", "The disk failed and did not recover."),
        ("75", "Another daemon uses the state directory or the socket."),
        (
            "78",
            "The configuration is invalid, or the store was written by a newer version. A restart does not help.",
        ),
    ],
};

const SOCKET_VARIABLE: (&str, &str) =
    ("FIELDSYNC_SOCKET", "Socket of the daemon, unless --socket names one.");
const COLOUR_VARIABLE: (&str, &str) =
    ("NO_COLOR", "If it is set and not empty, there are no colours, unless --color names something else.");
const PAGER_VARIABLES: (&str, &str) = (
    "FIELDSYNC_PAGER, PAGER",
    "The pager for long output on a terminal: the first that is set, else less -FRX. None if it is empty.",
);
const EDITOR_VARIABLES: (&str, &str) =
    ("VISUAL, EDITOR", "The editor of quarantine edit: the first that is set, else vi.");
const EDIT_DIR_VARIABLE: (&str, &str) = ("TMPDIR", "Directory of the text while it is edited; else /tmp.");
const SPOOL_DIR_VARIABLE: (&str, &str) =
    ("TMPDIR", "Directory in which enqueue stores the input of a pipe until it is checked; else /var/tmp.");

/// The environment of a command.
fn environment_of(name: &str) -> ManualNote {
    let entries: &[_] = match name {
        "fieldsync" => {
            &[SOCKET_VARIABLE, COLOUR_VARIABLE, PAGER_VARIABLES, EDITOR_VARIABLES, SPOOL_DIR_VARIABLE]
        }
        "fieldsync-enqueue" => &[SOCKET_VARIABLE, COLOUR_VARIABLE, SPOOL_DIR_VARIABLE],
        "fieldsync-quarantine-edit" => {
            &[SOCKET_VARIABLE, COLOUR_VARIABLE, EDITOR_VARIABLES, EDIT_DIR_VARIABLE]
        }
        _ => &[SOCKET_VARIABLE, COLOUR_VARIABLE, PAGER_VARIABLES],
    };
    ManualNote::List { heading: "ENVIRONMENT", entries }
}

const DAEMON_ENVIRONMENT: ManualNote = ManualNote::List {
    heading: "ENVIRONMENT",
    entries: &[
        ("FIELDSYNC_SECTION__KEY", "Overrides a key of the files, for example FIELDSYNC_SERVER__URL."),
        (
            "STATE_DIRECTORY, RUNTIME_DIRECTORY",
            "Directories of the records and of the socket; systemd sets them.",
        ),
        (
            "CREDENTIALS_DIRECTORY",
            "Directory in which systemd puts the files fieldsync-token and fieldsync-otlp-headers.",
        ),
        ("HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY", "The proxy to use, unless server.proxy names one."),
    ],
};

const DAEMON_SIGNALS: ManualNote = ManualNote::List {
    heading: "SIGNALS",
    entries: &[
        ("SIGTERM, SIGINT", "The batch in flight may finish, then the daemon stops."),
        ("SIGHUP", "The configuration is read again. An invalid one is refused, and the present one stays."),
        ("SIGUSR1", "Waiting records are tried now."),
    ],
};

const DAEMON_FILES: ManualNote = ManualNote::List {
    heading: "FILES",
    entries: &[
        ("/etc/fieldsync/config.toml", "The configuration."),
        ("/etc/fieldsync/conf.d/*.toml", "More of it, read after that file in the order of the names."),
        ("/var/lib/fieldsync", "The records. Other users may not read them."),
        ("/run/fieldsync/fieldsync.sock", "The local API: HTTP with JSON."),
    ],
};

const SOCKET_FILE: ManualNote = ManualNote::List {
    heading: "FILES",
    entries: &[("/run/fieldsync/fieldsync.sock", "The default socket of the daemon.")],
};

const ENQUEUE_EXAMPLES: ManualNote = ManualNote::Examples(&[
    (
        "One record from standard input:",
        "echo '{\"type\": \"Visits\", \"payload\": {\"Subject\": \"Site visit\"}}' | fieldsync enqueue",
    ),
    (
        "Bare payloads, one on each line, in order for each account:",
        "fieldsync enqueue --type Visits --key-field account visits.ndjson",
    ),
]);

const REVIEW_EXAMPLES: ManualNote = ManualNote::Examples(&[
    ("The records that need review, and why:", "fieldsync quarantine list"),
    ("Correct the payload of a record, and send it again:", "fieldsync quarantine edit ID"),
    ("Keep a waiting record for review, to correct it:", "fieldsync quarantine add ID"),
    ("Queue all of them again unchanged:", "fieldsync quarantine retry --all"),
]);

/// The notes of the page about the configuration file. The command of the same name has a page of its own.
pub(super) fn config_file_notes() -> Vec<ManualNote> {
    vec![
        DAEMON_ENVIRONMENT,
        ManualNote::Examples(&[
            ("Check a change, then apply it:", "fieldsyncd --check-config\nsystemctl reload fieldsync"),
            ("What is in effect, and from which line it comes:", "fieldsync config"),
        ]),
        ManualNote::SeeAlso(&["fieldsyncd(8)", "fieldsync-config(1)", "fieldsync-doctor(1)"]),
    ]
}

/// The notes of a page.
pub(super) fn notes_of(name: &str) -> Vec<ManualNote> {
    let mut notes = match name {
        "fieldsyncd" => vec![
            DAEMON_SIGNALS,
            DAEMON_EXIT_STATUS,
            DAEMON_ENVIRONMENT,
            DAEMON_FILES,
            ManualNote::Examples(&[
                ("The configuration that is in effect:", "fieldsyncd --check-config"),
                ("Apply a change:", "systemctl reload fieldsync"),
                ("The complete log of one batch:", "journalctl -u fieldsync FIELDSYNC_BATCH_ID=…"),
            ]),
        ],
        "fieldsync-doctor" => vec![
            DOCTOR_EXIT_STATUS,
            ManualNote::Examples(&[
                ("All checks, including secrets and the state directory:", "sudo fieldsync doctor"),
                (
                    "An archive for support, without secrets, keys and payloads:",
                    "sudo fieldsync doctor --bundle bundle.tar.zst",
                ),
                (
                    "Only the problems, for a program:",
                    "fieldsync doctor --json | jq '.checks[] | select(.result == \"problem\")'",
                ),
            ]),
        ],
        _ => vec![EXIT_STATUS, environment_of(name), SOCKET_FILE],
    };
    notes.extend(examples_of(name));
    notes.push(ManualNote::SeeAlso(see_also_of(name)));
    notes
}

fn examples_of(name: &str) -> Option<ManualNote> {
    Some(match name {
        "fieldsync" => ManualNote::Examples(&[
            ("Follow what the daemon does:", "fieldsync status --watch"),
            ("Send now, and wait until nothing is left:", "fieldsync sync --wait"),
            ("What is wrong, and what to do about it:", "fieldsync doctor"),
            ("Try it without an installation:", "fieldsync demo"),
        ]),
        "fieldsync-status" => ManualNote::Examples(&[(
            "Only the summary sentence:",
            "fieldsync status --json | jq -r .sync.text",
        )]),
        "fieldsync-enqueue" => ENQUEUE_EXAMPLES,
        "fieldsync-list" => ManualNote::Examples(&[
            ("The failed records:", "fieldsync list --state failed"),
            ("Records of all users that need review:", "fieldsync list --state needs-review --all"),
        ]),
        "fieldsync-show" => ManualNote::Examples(&[(
            "Everything that is known about a record:",
            "fieldsync show --payload ID",
        )]),
        "fieldsync-sync" => ManualNote::Examples(&[(
            "Send all waiting records, and wait for the result:",
            "fieldsync sync --wait",
        )]),
        "fieldsync-quarantine" => REVIEW_EXAMPLES,
        "fieldsync-quarantine-edit" => {
            ManualNote::Examples(&[("With another editor:", "VISUAL=nano fieldsync quarantine edit ID")])
        }
        "fieldsync-quarantine-export" => ManualNote::Examples(&[(
            "To a file, which must not be a symbolic link:",
            "fieldsync quarantine export review.ndjson",
        )]),
        "fieldsync-manifest-export" => ManualNote::Examples(&[(
            "To a file, which must not be a symbolic link:",
            "fieldsync manifest export manifest.ndjson",
        )]),
        "fieldsync-store-salvage" => ManualNote::Examples(&[(
            "Salvage a damaged store, and enqueue the records as the user who submitted them, not as root:",
            "sudo fieldsync store salvage --output salvaged.ndjson FILE\nsudo cat salvaged.ndjson | fieldsync enqueue",
        )]),
        "fieldsync-events" => ManualNote::Examples(&[(
            "One JSON object on each line, for a program:",
            "fieldsync events --json",
        )]),
        "fieldsync-batches" => ManualNote::Examples(&[
            ("The batches of the last hour:", "fieldsync batches --since 1h"),
            ("One of them, with its records:", "fieldsync batches 3f2a91bc"),
        ]),
        "fieldsync-telemetry" => ManualNote::Examples(&[
            (
                "How many batches got no response in time:",
                "fieldsync telemetry --json | jq '[.by_batch_size[].timeouts] | add'",
            ),
            ("The same measurements as a page with plots:", "fieldsync telemetry report --html report.html"),
        ]),
        "fieldsync-telemetry-report" => ManualNote::Examples(&[(
            "The report of another device, to a file here:",
            "ssh tablet-17 fieldsync telemetry report --html - > tablet-17.html",
        )]),
        "fieldsync-logs" => ManualNote::Examples(&[
            ("Follow the messages of the daemon:", "fieldsync logs -f"),
            ("Those of the last two hours:", "fieldsync logs --since 2h"),
        ]),
        "fieldsync-demo" => ManualNote::Examples(&[
            ("With records of your own:", "fieldsync demo --input records.ndjson"),
            (
                "With a CRM behind the gateway, in a clone of the repository:",
                "target/debug/fieldsync demo --crm zoho",
            ),
        ]),
        "fieldsync-completions" => ManualNote::Examples(&[(
            "For all users of bash:",
            "fieldsync completions bash | sudo tee /usr/share/bash-completion/completions/fieldsync",
        )]),
        _ => return None,
    })
}

fn see_also_of(name: &str) -> &'static [&'static str] {
    match name {
        "fieldsync" => &["fieldsync-doctor(1)", "fieldsync-config(5)", "fieldsyncd(8)"],
        "fieldsyncd" => &["fieldsync(1)", "fieldsync-config(5)", "systemctl(1)", "journalctl(1)"],
        _ => &["fieldsync(1)", "fieldsync-config(5)", "fieldsyncd(8)"],
    }
}
