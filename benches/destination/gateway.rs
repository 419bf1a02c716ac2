//! The built gateway, with a ledger of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::instant_crm::InstantCrm;

/// A gateway; killed when dropped.
pub(crate) struct RunningGateway {
    pub(crate) address: SocketAddr,
    child: Child,
    _dir: TempDir,
}

impl RunningGateway {
    /// Starts one that hands records over to the CRM, if there is one.
    pub(crate) fn start(dir: &Path, crm: Option<&InstantCrm>) -> Self {
        let dir = tempfile::tempdir_in(dir).expect("a directory");
        let mut command = Command::new(gateway_program());
        command.args(["--listen", "127.0.0.1:0", "--store"]).arg(dir.path().join("ledger.redb"));
        if let Some(crm) = crm {
            command.arg("--config").arg(write_configuration(dir.path(), crm));
        }
        let mut child =
            command.stderr(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the gateway starts");
        let mut ready = String::new();
        let stdout = child.stdout.take().expect("the output is piped");
        BufReader::new(stdout).read_line(&mut ready).expect("the gateway prints its address");
        let address = ready.trim_end().rsplit_once("://").expect("an address").1;
        Self { address: address.parse().expect("an address"), child, _dir: dir }
    }
}

impl Drop for RunningGateway {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("the process ends");
    }
}

fn write_configuration(dir: &Path, crm: &InstantCrm) -> PathBuf {
    let secret = dir.join("secret");
    fs::write(&secret, "secret\n").expect("a file is written");
    let path = dir.join("gateway.toml");
    let (url, secret) = (format!("http://{}", crm.address), secret.display().to_string());
    let text = format!(
        "[destination]\nkind = \"zoho\"\n[destination.zoho]\naccounts_url = {url:?}\nclient_id = \"bench\"\n\
         client_secret_file = {secret:?}\nrefresh_token_file = {secret:?}\n[[destination.type]]\nname = \"Deals\"\n\
         id_field = \"Fieldsync_Id\"\nkey_field = \"Fieldsync_Key\"\ntrigger = []\n",
    );
    fs::write(&path, text).expect("the configuration is written");
    path
}

/// It is in the directory of this package's programs: `cargo build --release -p fieldsync-gateway`.
fn gateway_program() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_fieldsync")).with_file_name("fieldsync-gateway")
}
