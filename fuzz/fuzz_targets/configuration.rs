//! The configuration: an accepted one can be used and printed, and its printed form is parsed to the same.
//!
//! An input consists of environment variables, one `NAME=value` on each line, an empty line, and the file.
#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use fieldsync::config::{Config, ConfigError, ConfigFile, parse_layers};
use libfuzzer_sys::fuzz_target;

/// The password in the seeds.
const SECRET: &str = "hunter2!";
/// Keys whose value may wrongly contain a password.
const SECRET_KEYS: [(&str, &str); 6] = [
    ("server", "url"),
    ("server", "proxy"),
    ("server", "token_file"),
    ("server", "proxy_credential_file"),
    ("server", "client_key_file"),
    ("web", "token_file"),
];

fuzz_target!(|input: &[u8]| {
    let end = if input.starts_with(b"\n") { Some(0) } else { find(input, b"\n\n") };
    let (variables, file) = match end {
        Some(end) => (&input[..end], input[end..].trim_ascii_start()),
        None => (&b""[..], input),
    };
    let Ok(file) = str::from_utf8(file) else { return };
    // What a variable holds for a key without secrets is shown in messages.
    let is_shown = find(variables, SECRET.as_bytes()).is_some();
    let variables = variables.split(|byte| *byte == b'\n').filter_map(|line| {
        let at = line.iter().position(|byte| *byte == b'=')?;
        let text = |bytes: &[u8]| std::ffi::OsStr::from_bytes(bytes).to_owned();
        Some((text(&line[..at]), text(&line[at + 1..])))
    });
    match parse(file, variables) {
        Ok(config) => {
            assert_eq!(config.validate(), []);
            let printed = config.to_toml();
            let again = parse(&printed, std::iter::empty()).expect("what was printed is valid");
            assert_eq!(again, config);
            assert_eq!(again.to_toml(), printed);
            use_all(&config);
        }
        Err(error) if !is_shown => assert_hides_secrets(file, &error.to_string()),
        Err(_) => {}
    }
});

fn parse(file: &str, variables: impl Iterator<Item = (OsString, OsString)>) -> Result<Config, ConfigError> {
    let file = ConfigFile { path: "config.toml".into(), text: file.to_owned() };
    parse_layers(&vec![file].into(), variables).map(|loaded| loaded.config)
}

/// Panics if a message shows what may be a password: any part of a file that is not TOML, or a value of these keys.
fn assert_hides_secrets(file: &str, message: &str) {
    assert!(!message.is_empty());
    let is_secret = match toml::from_str::<toml::Table>(file) {
        Err(_) => file.contains(SECRET),
        Ok(sections) => {
            let value =
                |(section, key): &(&str, &str)| sections.get(*section)?.get(*key).map(ToString::to_string);
            file.matches(SECRET).count() == 1
                && SECRET_KEYS.iter().filter_map(value).any(|value| value.contains(SECRET))
        }
    };
    assert!(!(is_secret && message.contains(SECRET)), "{message}");
}

/// Asserts that the values computed from a valid configuration make sense.
fn use_all(config: &Config) {
    assert!(config.time_budget() <= config.server.request_timeout.0);
    assert!((1..=config.ipc.max_connections).contains(&config.ipc.event_streams()));
    assert!(config.web.address().is_none_or(|address| address.ip().is_loopback()));
    assert!(!config.server.url.ends_with('/'));
    config.server.is_unencrypted();
    assert!(!config.state_dir().as_os_str().is_empty() && !config.socket().as_os_str().is_empty());
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|some| some == part)
}
