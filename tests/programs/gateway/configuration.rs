//! The configuration file of the gateway: what wins, what is refused, and what is shown.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use crate::support::device::Batch;
use crate::support::gateway::{Gateway, command_of};
use crate::support::postgres::ledger_in;
use crate::support::process::{ProgramOutput, run};
use crate::support::wait::directory;

/// A directory with a configuration file, secrets and a log.
pub(super) struct Setup {
    pub(super) directory: tempfile::TempDir,
}

impl Setup {
    /// With this text after `[gateway]`, an address and a store.
    pub(super) fn with(text: &str) -> Self {
        let setup = Self { directory: directory() };
        setup.write(text);
        setup
    }

    /// A destination whose secrets are there.
    pub(super) fn with_zoho() -> Self {
        let setup = Self { directory: directory() };
        setup.place("secret", "s3cret-client\n");
        setup.place("refresh", "s3cret-refresh\n");
        setup.write(&setup.zoho("https://accounts.zoho.eu"));
        setup
    }

    pub(super) fn write(&self, text: &str) {
        let store = ledger_in(self.directory.path());
        self.place(
            "gateway.toml",
            &format!("[gateway]\nlisten = \"127.0.0.1:0\"\nstore = '{store}'\n{text}"),
        );
    }

    pub(super) fn place(&self, name: &str, content: &str) -> String {
        fs::write(self.path(name), content).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn zoho(&self, accounts_url: &str) -> String {
        format!(
            "[destination]\nkind = \"zoho\"\n[destination.zoho]\naccounts_url = \"{accounts_url}\"\nclient_id = \"1000.A\"\n\
             client_secret_file = '{}'\nrefresh_token_file = '{}'\n[[destination.type]]\nname = \"Accounts\"\n\
             id_field = \"Fieldsync_Id\"\nfields = {{ account = \"Account_Name\" }}\n",
            self.path("secret").display(),
            self.path("refresh").display()
        )
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command_of(&["--config", self.path("gateway.toml").to_str().unwrap()]);
        command.args(arguments);
        command
    }

    pub(super) fn start(&self, arguments: &[&str]) -> Gateway {
        let mut command = self.command(arguments);
        command.env_remove("RUST_LOG").stderr(File::create(self.path("log")).unwrap());
        Gateway::start_by(command)
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    pub(super) fn check(&self, arguments: &[&str]) -> ProgramOutput {
        run(&mut self.command(&[&["--check-config"], arguments].concat()), b"")
    }
}

#[test]
fn options_win_over_the_file_and_the_file_over_defaults() {
    let setup = Setup::with(
        "path = \"/from/file/\"\nmax_body_bytes = \"1MiB\"\n[forward]\nmax_records = 7\n[faults]\nreject_on = \"x\"\n",
    );
    let checked = setup.check(&["--max-body-bytes", "2MiB", "--forward-timeout", "5s", "--no-lookup"]);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    let shown: toml::Table = checked.stdout.parse().unwrap();
    let (gateway, forward) = (&shown["gateway"], &shown["forward"]);
    assert_eq!(gateway["path"].as_str(), Some("/from/file"));
    assert_eq!(gateway["max_body_bytes"].as_str(), Some("2MiB"));
    assert_eq!(gateway["keep_answers"].as_str(), Some("30days"));
    assert_eq!(gateway["keep_records"].as_str(), Some("400days"));
    assert_eq!((forward["max_records"].as_integer(), forward["timeout"].as_str()), (Some(7), Some("5s")));
    assert_eq!(shown["faults"]["reject_on"].as_str(), Some("x"));
    assert_eq!(shown["faults"]["no_lookup"].as_bool(), Some(true));

    // What is shown is a configuration with the same effect.
    fs::write(setup.path("gateway.toml"), &checked.stdout).unwrap();
    assert_eq!(setup.check(&[]).stdout, checked.stdout);

    let gateway = setup.start(&[]);
    let batch = Batch::of(&["{}"]);
    let headers = batch.headers();
    let headers = crate::support::http::borrow_headers(&headers);
    gateway.send(hyper::Method::POST, "/from/file", &headers, batch.body()).batch();
}

#[test]
fn a_mistake_in_the_file_is_refused_with_file_key_and_reason_and_without_secrets() {
    for (text, parts) in [
        ("lisen = 1\n", &["line 4", "unknown key lisen in [gateway]; did you mean listen?"][..]),
        ("[gatway]\n", &["line 4", "unknown section [gatway]; did you mean [gateway]?"]),
        ("[forward]\nmax_records = \"many\"\n", &["line 5", "forward.max_records", "expected"]),
        ("[forward]\ntimeout = \"0s\"\n", &["forward.timeout", "must not be zero"]),
        ("[forward]\nurl = \"http://me:s3cret@crm/\"\n", &["forward.url", "token_file"]),
        ("[forward]\ntoken_file = \"s3cret\"\n", &["forward.token_file", "forward.url"]),
        ("max_body_bytes = 0\n", &["gateway.max_body_bytes", "zero"]),
        ("max_in_flight_per_device = 0\n", &["gateway.max_in_flight_per_device", "nonzero"]),
        (
            "keep_answers = \"9d\"\nkeep_records = \"8d\"\n",
            &["gateway.keep_records", "at least `keep_answers`"],
        ),
        ("keep_answers = \"soon\"\n", &["gateway.keep_answers", "`soon` is not a duration"]),
        ("path = \"metrics\"\n", &["gateway.path", "plain path"]),
        ("tls_cert_file = \"c\"\n", &["gateway.tls_key_file", "required"]),
        ("client_ca_file = \"c\"\n", &["gateway.client_ca_file", "needs TLS"]),
        ("token_file = \"/nowhere/tokens\"\n", &["gateway.token_file", "/nowhere/tokens", "No such file"]),
        ("token_file = [\"s3cret\"]\n", &["gateway.token_file", "wrong type"]),
        ("[faults]\nfail_rate = 1.5\n", &["faults.fail_rate", "between 0.0 and 1.0"]),
        ("[destination]\nkind = \"soho\"\n", &["destination.kind", "`zoho`"]),
        ("[destination]\nkind = \"zoho\"\n", &["destination.zoho: is needed"]),
        ("[destination]\nkind = \"http\"\n", &["destination.mapping_file: is needed"]),
        (
            "[destination]\nkind = \"http\"\nmapping_file = \"/nowhere/m\"\n",
            &["destination.mapping_file", "/nowhere/m"],
        ),
        (
            "[destination.zoho]\nclient_secret = \"s3cret\"\n",
            &["unknown key client_secret in [destination.zoho]"],
        ),
        ("[[destination.type]]\nname = \"Accounts\"\n", &["missing field `id_field`"]),
        ("s3cret =\n", &["line 4"]),
    ] {
        let setup = Setup::with(text);
        for arguments in [&[][..], &["--check-config"]] {
            let refused = run(&mut setup.command(arguments), b"");
            let said = refused.stderr;
            assert_eq!((refused.code, refused.stdout.as_str()), (Some(78), ""), "{text}: {said}");
            assert!(said.contains(setup.path("gateway.toml").to_str().unwrap()), "{text}: {said}");
            for part in parts {
                assert!(said.contains(part), "`{part}` is not in {said}");
            }
            assert!(!said.contains("s3cret") || text.starts_with("s3cret"), "{said}");
            assert!(!setup.path("ledger.redb").exists(), "{text}: a ledger was made");
        }
    }
}

#[test]
fn all_values_that_are_not_allowed_are_named_at_once_and_those_of_options_as_options() {
    let setup = Setup::with("max_body_bytes = 0\n");
    let said = setup.check(&["--forward", "ftp://crm/"]).stderr;
    assert!(said.contains("gateway.toml: gateway.max_body_bytes:") && said.contains("--forward:"), "{said}");
}

#[test]
fn the_store_and_the_file_must_be_there() {
    let setup = Setup::with("");
    setup.place("gateway.toml", "[gateway]\nlisten = \"127.0.0.1:0\"\n");
    let refused = setup.check(&[]);
    assert_eq!(refused.code, Some(78));
    assert!(refused.stderr.contains("gateway.store: is required"), "{}", refused.stderr);
    assert_eq!(setup.check(&["--store", &ledger_in(setup.directory.path())]).code, Some(0));
    let missing = run(&mut command_of(&["--config", "/nowhere/gateway.toml"]), b"");
    assert_eq!(missing.code, Some(78));
    assert!(missing.stderr.contains("/nowhere/gateway.toml: cannot be read"), "{}", missing.stderr);
    // Without a file, the option is required.
    assert_eq!(run(&mut command_of(&[]), b"").code, Some(2));
}

#[test]
fn secrets_are_masked() {
    let setup = Setup::with_zoho();
    setup.place("gateway.toml", &setup.zoho("https://accounts.zoho.eu"));
    let checked = setup.check(&[
        "--store",
        "postgres://gate:s3cret@db.example/fieldsync?sslmode=require",
        "--forward",
        "https://hooks.example/in/s3cret?code=s3cret#s3cret",
    ]);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    assert!(!checked.stdout.contains("s3cret"), "{}", checked.stdout);
    let shown: toml::Table = checked.stdout.parse().unwrap();
    let store = shown["gateway"]["store"].as_str().unwrap();
    assert_eq!(store, "postgres://gate:***@db.example/fieldsync?sslmode=require");
    assert_eq!(shown["forward"]["url"].as_str(), Some("https://hooks.example/in/***?***"));
    assert_eq!(shown["destination"]["zoho"]["client_id"].as_str(), Some("1000.A"));
    assert_eq!(shown["destination"]["type"][0]["fields"]["account"].as_str(), Some("Account_Name"));
}

#[test]
fn secrets_that_cannot_be_read_are_named() {
    let setup = Setup::with_zoho();
    setup.place("secret", " \n");
    let said = setup.check(&[]).stderr;
    assert!(said.contains("destination.zoho.client_secret_file") && said.contains("is empty"), "{said}");
    fs::remove_file(setup.path("secret")).unwrap();
    let refused = run(&mut setup.command(&[]), b"");
    assert_eq!(refused.code, Some(78));
    assert!(refused.stderr.contains("cannot read the secret"), "{}", refused.stderr);
}

#[test]
fn a_relative_name_of_a_secret_is_a_credential_of_systemd() {
    let setup = Setup::with_zoho();
    let zoho = setup.zoho("https://accounts.zoho.eu");
    let directory = format!("{}/", setup.directory.path().display());
    setup.write(&format!("token_file = \"tokens\"\n{}", zoho.replace(&directory, "")));
    setup.place("tokens", "sesame\n");
    let refused = setup.check(&[]);
    assert_eq!(refused.code, Some(78), "{}", refused.stdout);
    let mut command = setup.command(&["--check-config"]);
    command.env("CREDENTIALS_DIRECTORY", setup.directory.path());
    let checked = run(&mut command, b"");
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    assert!(checked.stdout.contains("client_secret_file = \"secret\""), "{}", checked.stdout);
}

#[test]
fn an_address_without_encryption_is_warned_of_unless_it_is_this_machine() {
    let setup = Setup::with_zoho();
    for (accounts, forward, warnings) in [
        ("https://accounts.zoho.eu", "https://crm.example/in", &[][..]),
        ("http://127.0.0.1:9", "http://localhost:9/in", &[]),
        (
            "http://accounts.example",
            "https://crm.example/in",
            &["destination.zoho.accounts_url begins with http://"],
        ),
        ("https://accounts.zoho.eu", "http://crm.example/in", &["forward.url begins with http://"]),
    ] {
        setup.write(&format!("{}[forward]\nurl = \"{forward}\"\n", setup.zoho(accounts)));
        let checked = setup.check(&[]);
        assert_eq!(checked.code, Some(0), "{}", checked.stderr);
        drop(setup.start(&[]));
        for said in [checked.stderr, setup.log()] {
            assert_eq!(said.matches("begins with http://").count(), warnings.len(), "{accounts}: {said}");
            assert!(warnings.iter().all(|warning| said.contains(warning)), "{said}");
        }
    }
}
