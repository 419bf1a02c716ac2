//! Every key with every kind of extreme value: it is refused as configuration, or the daemon works with it.

use std::fs;
use std::path::PathBuf;

use fieldsync::config::{self, Config, ConfigFile, LoadedConfig};
use hyper::Method;
use serde_json::Value as Json;
use tokio::net::UnixStream;
use toml::{Table, Value};

use crate::support::daemon::{Home, daemon_command};
use crate::support::http::{exchange, request};
use crate::support::process::{Guard, run, signal};
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;
use crate::support::wait::{directory, wait_for};

/// Keys whose value may be empty, which means none.
const MAY_BE_EMPTY: [&str; 4] = ["server.url", "ipc.admin_group", "web.listen", "telemetry.otlp_url"];
/// It would reserve an eighth of this machine's disk.
const TOO_MUCH_FOR_THIS_MACHINE: &str = "disk_reserve";
/// How many of the accepted values of a key are tried: all, except for free text.
const STARTS_PER_KEY: usize = 8;
/// Longer than any path may be.
const LONG: usize = 5000;
const THREADS: usize = 4;

/// Section and name of every key, including those that the shipped file comments out.
fn keys() -> Vec<(String, String)> {
    let mut section = "";
    let mut keys = Vec::new();
    for line in include_str!("../../../config.toml").lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if let Some((key, _)) = line.strip_prefix("# ").unwrap_or(line).split_once(" = ")
            && key.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_')
        {
            keys.push((section.to_owned(), key.to_owned()));
        }
    }
    keys
}

fn extremes() -> Vec<Value> {
    let numbers = [0, 1, 2, -1, i64::from(u32::MAX), i64::MAX, i64::MIN].map(Value::from);
    let fractions = [0.0, -1.0, 1e-300, 1.0 - f64::EPSILON / 2.0, f64::MAX, f64::NAN, f64::INFINITY];
    let texts = [
        "",
        " ",
        "\t",
        "\r\n",
        "\u{0}",
        "a\u{0}b",
        "a\nb",
        "é",
        ".",
        "..",
        "0",
        "1",
        "-1",
        "0s",
        "1ns",
        "1ms",
        "366days",
        "367days",
        "584542046090years",
        "18446744073709551615s",
        "0B",
        "1B",
        "0.5B",
        "18446744073709551615B",
        "1e400B",
        "=",
        ",",
        "info,",
        "inf",
        "http://",
        "http://[::1",
        "http://x:99999",
        "/",
        "/ ",
        "//",
        "/?",
        "/#",
        "0000",
        "0777",
        "1000",
        "\u{202e}",
        "off",
        "0.0.0.0:1",
        "127.0.0.1:0",
    ]
    .map(Value::from);
    let long = ["x".repeat(LONG), format!("/{}", "x".repeat(LONG)), format!("http://{}", "x".repeat(LONG))];
    let switches = [true, false].map(Value::from);
    let lists = [Value::Array(Vec::new()), Value::Table(Table::new())];
    numbers
        .into_iter()
        .chain(fractions.map(Value::from))
        .chain(texts)
        .chain(long.map(Value::from))
        .chain(switches)
        .chain(lists)
        .collect()
}

/// A configuration file in the home in which only this key differs from the settings of the tests.
fn configure(home: &Home, server: &str, section: &str, key: &str, value: &Value) {
    let settings = Settings::for_server(server)
        .with("queue.state_dir", home.path("state").to_str().unwrap())
        .with("ipc.socket", home.socket().to_str().unwrap());
    let mut file: Table = settings.toml().parse().unwrap();
    let keys = file.entry(section).or_insert_with(|| Value::Table(Table::new()));
    keys.as_table_mut().unwrap().insert(key.to_owned(), value.clone());
    fs::write(home.path("config.toml"), file.to_string()).unwrap();
}

/// A path in the home: these tests must write nowhere else.
fn working_directory(home: &Home) -> PathBuf {
    let directory = home.path("a/b");
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// The daemon starts, accepts a record, sends it or reports why it waits, and stops in order.
fn assert_works(home: &Home, config: &Config, what: &str) {
    let mut command = home.command();
    command.current_dir(working_directory(home));
    let mut daemon = Guard(command.spawn().unwrap());
    let socket = working_directory(home).join(config.socket());
    if socket.is_dir() {
        return assert_eq!(daemon.wait().code(), Some(78), "{what}: {}", home.log());
    }
    if config.ipc.socket_mode.0 & 0o200 == 0 && !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut call = |method: Method, path: &str, body: &str| {
        assert!(daemon.is_running(), "{what}: {:?}: {}", daemon.wait(), home.log());
        let request =
            request(method, path, "localhost", &[("content-type", "application/json")], body.into());
        exchange(UnixStream::connect(&socket), request)
    };
    wait_for(&format!("a response with {what}"), || call(Method::GET, "/v1/status", ""));
    let taken = call(Method::POST, "/v1/records", r#"{"type":"T","key":"K","payload":{"a":1}}"#);
    if taken.is_some_and(|response| response.status == 201) {
        wait_for(&format!("the record to be sent, or to wait for a reason, with {what}"), || {
            let status: Json = call(Method::GET, "/v1/status", "")?.json();
            let moves = ["idle", "syncing"].contains(&status["sync"]["phase"].as_str()?);
            (status["records"]["synced"] == 1 || !moves).then_some(())
        });
    }
    assert!(daemon.is_running(), "{what}: {}", home.log());
    signal(daemon.0.id(), "TERM");
    let code = daemon.wait().code();
    assert_eq!(code, Some(0), "{what}: {}", home.log());
}

#[test]
fn every_key_with_every_extreme_value_is_refused_or_the_daemon_works_with_it() {
    let server = ScriptedServer::start(Reply::correct);
    let mut accepted = Vec::new();
    for (section, key) in keys() {
        let mut seen: Vec<Config> = Vec::new();
        for value in extremes() {
            let home = Home::new(&Settings::default());
            configure(&home, &server.url(), &section, &key, &value);
            let what =
                format!("{section}.{key} = {}", value.to_string().chars().take(60).collect::<String>());
            let file = home.path("config.toml");
            let text = fs::read_to_string(&file).unwrap();
            let Ok(LoadedConfig { config, .. }) =
                config::parse_layers(&vec![ConfigFile { path: file, text }].into(), std::iter::empty())
            else {
                continue;
            };
            if !seen.contains(&config) {
                seen.push(config.clone());
                let is_elsewhere = key == "state_dir" && config.state_dir().is_absolute();
                if seen.len() <= STARTS_PER_KEY && key != TOO_MUCH_FOR_THIS_MACHINE && !is_elsewhere {
                    accepted.push((home, config, what));
                }
            }
        }
    }
    assert!(accepted.len() > 50, "there are values to start with");
    let share = accepted.len().div_ceil(THREADS);
    std::thread::scope(|scope| {
        for some in accepted.chunks(share) {
            scope
                .spawn(move || some.iter().for_each(|(home, config, what)| assert_works(home, config, what)));
        }
    });
}

#[test]
fn every_variable_that_is_empty_is_refused_unless_empty_says_something() {
    let directory = directory();
    for (section, key) in keys() {
        for empty in ["", " ", "\r"] {
            let name = format!("FIELDSYNC_{section}__{key}").to_uppercase();
            let mut command = daemon_command();
            command.current_dir(directory.path()).arg("--check-config").env(&name, empty);
            let ran = run(&mut command, b"");
            let expected = if MAY_BE_EMPTY.contains(&format!("{section}.{key}").as_str()) { 0 } else { 78 };
            assert_eq!(ran.code, Some(expected), "{name}={empty:?}: {}", ran.stderr);
            let reported = [&key, &name].iter().any(|reported| ran.stderr.contains(*reported));
            assert!(expected == 0 || reported, "{name}={empty:?}: {}", ran.stderr);
        }
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left behind");
}
