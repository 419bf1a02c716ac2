//! The daemon as it ships, with its default configuration; where the gateway has a time limit, it knows it.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::contestant::{Contestant, Intake, Setup};
use crate::http_client::HttpClient;

pub(crate) struct Fieldsync {
    pub(crate) program: PathBuf,
    /// Most records in a batch.
    pub(crate) max_batch: usize,
    /// Most batches under way, if not the default.
    pub(crate) max_in_flight: Option<usize>,
}

impl Contestant for Fieldsync {
    fn name(&self) -> String {
        match self.max_in_flight {
            Some(1) => "fieldsync, one batch at a time".to_owned(),
            Some(most) => format!("fieldsync, at most {most} batches at a time"),
            None => "fieldsync".to_owned(),
        }
    }

    fn is_synced(&self) -> bool {
        true
    }

    fn command(&self, setup: &Setup<'_>) -> Command {
        let mut config = format!("[server]\nurl = \"http://{}\"\nproxy = \"none\"\n", setup.server);
        if let Some(limit) = setup.time_limit {
            writeln!(config, "request_timeout = \"{}\"", humantime::format_duration(limit))
                .expect("a text grows");
        }
        writeln!(config, "[batch]\nmax_batch_records = {}", self.max_batch).expect("a text grows");
        if let Some(most) = self.max_in_flight {
            writeln!(config, "max_in_flight = {most}").expect("a text grows");
        }
        write!(
            config,
            "[queue]\nstate_dir = \"{}\"\n[ipc]\nsocket = \"{}\"\n[log]\ntarget = \"stderr\"\nlevel = \"error\"\n",
            setup.dir.join("state").display(),
            socket_in(setup.dir).display(),
        )
        .expect("a text grows");
        let file = setup.dir.join("config.toml");
        fs::write(&file, config).expect("room for the configuration");
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(file).env_remove("NOTIFY_SOCKET");
        command
    }

    fn intake(&self, dir: &Path) -> Intake {
        Intake::Api(socket_in(dir))
    }

    fn ask_to_send(&self, dir: &Path) {
        let daemon = UnixStream::connect(socket_in(dir)).expect("the daemon listens");
        HttpClient::new(daemon).post("/v1/sync", "application/json", b"").expect("the daemon responds");
    }
}

fn socket_in(dir: &Path) -> PathBuf {
    dir.join("fieldsync.sock")
}
