//! syslog-ng with its reliable disk buffer and its `http()` destination, as its administration guide describes them.
//!
//! Its disk buffer is written, but never synced: no option does so. A record is accepted when it is in that file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::contestant::{Contestant, Intake, Setup};
use crate::server::PLAIN_PATH;

pub(crate) struct SyslogNg {
    pub(crate) program: PathBuf,
    pub(crate) modules: Option<PathBuf>,
    /// Records in a batch.
    pub(crate) batch: usize,
    pub(crate) workers: usize,
}

impl Contestant for SyslogNg {
    fn name(&self) -> String {
        match self.workers {
            1 => format!("syslog-ng, batch {}", self.batch),
            workers => format!("syslog-ng, batch {}, {workers} workers", self.batch),
        }
    }

    fn is_synced(&self) -> bool {
        false
    }

    fn find_obstacle(&self) -> Option<String> {
        let mut command = Command::new(&self.program);
        self.name_modules(&mut command);
        let output = command.arg("--version").stdin(Stdio::null()).output();
        let Ok(output) = output else {
            return Some(format!(
                "{} does not run: install syslog-ng-core, or name it with --syslog-ng",
                self.program.display()
            ));
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let modules =
            text.lines().find_map(|line| line.strip_prefix("Available-Modules:")).unwrap_or_default();
        let has_module = |name| modules.split([',', ' ']).any(|module| module == name);
        (!has_module("http") || !has_module("disk-buffer"))
            .then(|| "it lacks the module http or disk-buffer: install syslog-ng-mod-http".to_owned())
    }

    fn command(&self, setup: &Setup<'_>) -> Command {
        let dir = setup.dir.display();
        let config = format!(
            "@version: current\n\
             options {{ keep-hostname(yes); }};\n\
             source s_records {{ unix-stream(\"{}\" flags(no-parse)); }};\n\
             destination d_server {{ http(\n\
               url(\"http://{}{PLAIN_PATH}\") method(\"POST\") headers(\"Content-Type: application/json\")\n\
               body-prefix(\"[\") body(\"${{MESSAGE}}\") delimiter(\",\") body-suffix(\"]\")\n\
               batch-lines({}) batch-timeout(100) workers({}) timeout(60) time-reopen(1)\n\
               disk-buffer(reliable(yes) disk-buf-size(4294967296) dir(\"{dir}\"))); }};\n\
             log {{ source(s_records); destination(d_server); flags(flow-control); }};\n",
            socket_in(setup.dir).display(),
            setup.server,
            self.batch,
            self.workers,
        );
        let file = setup.dir.join("syslog-ng.conf");
        fs::write(&file, config).expect("room for the configuration");
        let mut command = Command::new(&self.program);
        self.name_modules(&mut command);
        command.args(["--foreground", "--no-caps", "--stderr", "--cfgfile"]).arg(file);
        for (option, name) in [("--persist-file", "persist"), ("--pidfile", "pid"), ("--control", "control")]
        {
            command.arg(option).arg(setup.dir.join(name));
        }
        command
    }

    fn intake(&self, dir: &Path) -> Intake {
        Intake::Lines(socket_in(dir))
    }
}

impl SyslogNg {
    fn name_modules(&self, command: &mut Command) {
        if let Some(modules) = &self.modules {
            command.arg("--module-path").arg(modules);
        }
    }
}

fn socket_in(dir: &Path) -> PathBuf {
    dir.join("records.sock")
}
