//! The manual page of the gateway: what clap knows of its options, and what an option cannot say.

use std::io::{self, Write};

use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::command_line::build_command_line;

/// Chapter of the manual for administrators.
const CHAPTER: &str = "8";

const LISTS: [(&str, &[(&str, &str)]); 5] = [
    (
        "COMMANDS",
        &[
            (
                "devices",
                "Lists the devices that were in contact, at a gateway with --admin-token-file: those without contact for \
                 the longest time first. fieldsync-gateway devices --help explains options and exit codes.",
            ),
            (
                "refused list, show, retry, edit, discard",
                "Reviews records that the receiver of forwarded records refused, at a gateway with --admin-token-file. \
                 fieldsync-gateway refused --help explains the commands and their exit codes.",
            ),
            (
                "conformance URL",
                "Holds any server against the wire protocol, point by point, with records of its own: for servers in \
                 development, not in production. fieldsync-gateway conformance --help explains options and exit codes.",
            ),
        ],
    ),
    (
        "SIGNALS",
        &[
            ("SIGTERM, SIGINT", "Finishes the requests in flight, then ends."),
            (
                "SIGHUP",
                "Reads the configuration and the files that it names again. A file with a mistake changes nothing. The \
                 log names keys that take effect at the next start.",
            ),
        ],
    ),
    (
        "EXIT STATUS",
        &[
            ("0", "The gateway was stopped by a signal."),
            ("1", "It cannot start, or failed."),
            ("2", "Wrong usage."),
            ("74", "The ledger cannot be opened, read or written."),
            ("75", "Another gateway has the ledger or the address."),
            (
                "78",
                "The configuration or a file that it names cannot be used, or the ledger is of another version.",
            ),
        ],
    ),
    (
        "FILES",
        &[
            ("/etc/fieldsync-gateway/config.toml", "The configuration of the service."),
            ("/etc/default/fieldsync-gateway", "Options of the service that win over it."),
            ("/usr/share/doc/fieldsync-gateway/server.md", "Every key of the configuration."),
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            ("RUST_LOG", "What is logged, for example info or debug."),
            ("PGPASSWORD", "The password of the database, if the URL has none."),
            (
                "CREDENTIALS_DIRECTORY",
                "Directory of systemd credentials, which relative names of files may mean.",
            ),
        ],
    ),
];

const EXAMPLES: [(&str, &str); 3] = [
    (
        "A server for tests, with a gateway of 30 seconds in front of it:",
        "fieldsync-gateway --listen 127.0.0.1:8080 --store ledger.redb --time-limit 30s",
    ),
    (
        "The configuration that is in effect, and what is wrong with it:",
        "fieldsync-gateway --config /etc/fieldsync-gateway/config.toml --check-config",
    ),
    (
        "A token for one device, as a line of --token-file:",
        "echo \"DEVICE-ID sha256:$(printf %s \"$TOKEN\" | sha256sum | cut -c -64)\"",
    ),
];

/// Writes the page as roff.
pub fn write_manual(out: &mut impl Write) -> io::Result<()> {
    let mut command = build_command_line();
    command.build();
    let version = concat!("fieldsync-gateway ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command).section(CHAPTER).source(version).manual("fieldsync").date("");
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    let mut page = Roff::new();
    for (heading, entries) in LISTS {
        page.control("SH", [heading]);
        for (term, meaning) in entries {
            page.control("TP", []).text([bold(*term)]).text([roman(*meaning)]);
        }
    }
    page.control("SH", ["EXAMPLES"]);
    for (purpose, command) in EXAMPLES {
        page.control("PP", []).text([roman(purpose)]);
        page.control("RS", ["4"])
            .control("nf", [])
            .text([roman(command)])
            .control("fi", [])
            .control("RE", []);
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([bold("fieldsync"), roman("(1), "), bold("fieldsyncd"), roman("(8)")]);
    out.write_all(page.to_roff().as_bytes())
}
