//! The credential files of the device.

use std::fs;

use super::{DoctorRun, NOBODY, is_root};
use crate::support::daemon::Home;
use crate::support::secrets::place;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;

#[test]
fn a_refused_token_file_is_reported_with_the_command_that_fixes_it() {
    let server = ScriptedServer::start(|_| Reply::error(401, "WHO"));
    let home = Home::new(&Settings::default());
    let token = home.path("token");
    home.configure(&Settings::for_server(&server.url()).with("server.token_file", token.to_str().unwrap()));
    DoctorRun::to(&home).found("credential", "problem", &["No such file", "sudo install -m 0600"]);
    for (content, mode, words) in [
        ("sesame-open", 0o644, &["open to others (mode 0644)", "chmod o= "][..]),
        ("sesame-open", 0o660, &["open to others (mode 0660)", "chmod g-w "]),
        ("sesame open", 0o600, &["does not hold a token", "one word"]),
        ("", 0o600, &["does not hold a token"]),
    ] {
        place(&token, content, mode);
        let visit = DoctorRun::to(&home);
        visit.found("credential", "problem", words);
        // The token was not sent, so the report does not claim that the server refused it.
        visit.found("server", "could_not_check", &["which was not sent"]);
    }
    let requests = server.requests();
    assert!(requests.iter().all(|request| request.header("authorization").is_empty()), "{requests:?}");
    fs::remove_file(&token).unwrap();
    fs::create_dir(&token).unwrap();
    DoctorRun::to(&home).found("credential", "problem", &["it is not a file"]);
}

#[test]
fn a_token_from_systemd_is_used_as_the_daemon_uses_it() {
    let server = ScriptedServer::start(|request| match request.header("authorization") {
        "Bearer sesame-open" => Reply::unknown_batch(),
        _ => Reply::error(401, "WHO"),
    });
    let home = Home::new(&Settings::for_server(&server.url()));
    let handed_over = home.path("credentials");
    fs::create_dir(&handed_over).unwrap();
    place(&handed_over.join("fieldsync-token"), "sesame-open", 0o440);
    let visit = || {
        let mut command = super::doctor(&super::program(), &home.path("config.toml"));
        DoctorRun::by(command.arg("--json").env("CREDENTIALS_DIRECTORY", &handed_over))
    };
    visit().found("credential", "ok", &["the systemd credential fieldsync-token"]);
    visit().found("server", "ok", &["accepts the token"]);
    fs::remove_file(handed_over.join("fieldsync-token")).unwrap();
    visit().found("credential", "ok", &["no token or certificate is configured"]);
    visit().found("server", "problem", &["none is configured"]);
}

#[test]
fn a_token_that_only_root_may_read_is_a_problem_for_a_daemon_of_another_user() {
    if !is_root() {
        return;
    }
    let server = ScriptedServer::start(Reply::correct);
    let home = Home::new(&Settings::default());
    let token = home.path("token");
    place(&token, "sesame-open", 0o600);
    home.configure(&Settings::for_server(&server.url()).with("server.token_file", token.to_str().unwrap()));
    super::change_mode(&home.path(""), 0o755);
    // The owner of the state directory is the daemon's user.
    fs::create_dir(home.path("state")).unwrap();
    std::os::unix::fs::chown(home.path("state"), Some(NOBODY), None).unwrap();
    DoctorRun::to(&home).found("credential", "problem", &["cannot be read by nobody", "sudo chown nobody:"]);
    std::os::unix::fs::chown(&token, Some(NOBODY), None).unwrap();
    DoctorRun::to(&home).found("credential", "ok", &["server.token_file"]);
}

#[test]
fn a_token_that_is_sent_unencrypted_is_reported() {
    let home = Home::new(&Settings::default());
    let token = home.path("token");
    place(&token, "sesame-open", 0o600);
    let settings = Settings::for_server("http://127.0.0.1.example.invalid")
        .with("server.token_file", token.to_str().unwrap());
    home.configure(&settings);
    DoctorRun::to(&home).found("credential", "warning", &["sent unencrypted", "https://"]);
    home.configure(&settings.with("server.url", "http://127.0.0.1:1"));
    let visit = DoctorRun::to(&home);
    assert!(visit.of("credential").iter().all(|(result, _)| *result == "ok"), "{:#}", visit.report);
}
