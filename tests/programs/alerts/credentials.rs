//! Credentials that expire or are refused.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fieldsync::clock::wall_ms;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::{wait_for_end, wait_for_start};
use crate::support::daemon::Home;
use crate::support::secrets::place;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;

/// Writes a client certificate that expires at the begin of this year.
fn place_certificate(home: &Home, year: i32) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["device".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(year, 1, 1));
    place(&home.path("client.key"), &key.serialize_pem(), 0o600);
    place(&home.path("client.pem"), &params.self_signed(&key).unwrap().pem(), 0o644);
}

fn in_home(home: &Home, name: &str) -> String {
    let path = home.path(name);
    <Path as AsRef<std::ffi::OsStr>>::as_ref(&path).to_str().unwrap().to_owned()
}

#[test]
fn a_certificate_that_has_expired_is_an_alert_until_it_is_replaced() {
    let server = ScriptedServer::start(Reply::correct);
    let home = Home::new(&Settings::default());
    place_certificate(&home, 2021);
    home.configure(
        &Settings::for_server(&server.url())
            .with("server.client_cert_file", &in_home(&home, "client.pem"))
            .with("server.client_key_file", &in_home(&home, "client.key")),
    );
    let daemon = home.start();
    let alert = wait_for_start(&daemon, "credential_expires");
    assert_eq!(alert["severity"], "critical");
    assert!(alert["message"].as_str().unwrap().contains("the client certificate of this device expired"));
    place_certificate(&daemon.home, 4096);
    wait_for_end(&daemon, "credential_expires");
}

#[test]
fn a_token_that_expires_soon_is_an_alert_unless_that_is_turned_off() {
    let token = |seconds: u64| {
        let claims = format!(r#"{{"exp": {}}}"#, wall_ms() / 1000 + seconds);
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    };
    let server = ScriptedServer::start(Reply::correct);
    let home = Home::new(&Settings::default());
    place(&home.path("token"), &token(3600), 0o600);
    let settings = Settings::for_server(&server.url()).with("server.token_file", &in_home(&home, "token"));
    home.configure(&settings);
    let daemon = home.start();
    let alert = wait_for_start(&daemon, "credential_expires");
    assert!(alert["message"].as_str().unwrap().starts_with("the token of this device expires at"));
    daemon.reload(&settings.clone().with("telemetry.alert_credential_expiry", "0s"));
    wait_for_end(&daemon, "credential_expires");
    daemon.reload(&settings);
    wait_for_start(&daemon, "credential_expires");
    place(&daemon.home.path("token"), &token(365 * 24 * 3600), 0o600);
    wait_for_end(&daemon, "credential_expires");
}

#[test]
fn a_refused_token_is_an_alert_until_a_batch_is_accepted() {
    let server = ScriptedServer::start(|_| Reply::error(401, "OLD_TOKEN"));
    let home = Home::new(&Settings::default());
    place(&home.path("token"), "sesame-open", 0o600);
    home.configure(&Settings::for_server(&server.url()).with("server.token_file", &in_home(&home, "token")));
    let daemon = home.start();
    daemon.enqueue_many(2);
    let alert = wait_for_start(&daemon, "credential_refused");
    assert_eq!(alert["severity"], "critical");
    server.set_script(Reply::correct);
    place(&daemon.home.path("token"), "sesame-open-2", 0o600);
    wait_for_end(&daemon, "credential_refused");
    daemon.wait_until_done();
}
