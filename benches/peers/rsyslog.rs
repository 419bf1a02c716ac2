//! rsyslog with a disk queue and omhttp, as its documentation describes them, and with a ruleset that sends the records of
//! a failed batch one by one.
//!
//! Synced, each record is on disk when it is accepted (`queue.syncQueueFiles`), and the position in the queue as well
//! (`queue.checkpointInterval`). Otherwise it is accepted when it is in the file of the queue.
//!
//! Debian builds rsyslog without omhttp up to release 13, so another build must be named.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::contestant::{Contestant, Intake, Setup};
use crate::server::PLAIN_PATH;

pub(crate) struct Rsyslog {
    pub(crate) program: PathBuf,
    pub(crate) modules: Option<PathBuf>,
    /// Most records in a batch.
    pub(crate) batch: usize,
    /// Whether each record is synced before it is accepted.
    pub(crate) is_synced: bool,
}

impl Contestant for Rsyslog {
    fn name(&self) -> String {
        format!("rsyslog, batch {}", self.batch)
    }

    fn is_synced(&self) -> bool {
        self.is_synced
    }

    fn find_obstacle(&self) -> Option<String> {
        if Command::new(&self.program).arg("-v").stdin(Stdio::null()).output().is_err() {
            return Some(format!("{} does not run: name a build with --rsyslogd", self.program.display()));
        }
        let debian_modules = PathBuf::from(format!("/usr/lib/{ARCH}-linux-gnu/rsyslog"));
        let modules = self.modules.as_ref().unwrap_or(&debian_modules);
        (!modules.join("omhttp.so").exists()).then(|| {
            format!(
                "{} has no omhttp.so: name a build with --rsyslogd and --rsyslog-modules",
                modules.display()
            )
        })
    }

    fn command(&self, setup: &Setup<'_>) -> Command {
        let (dir, socket) = (setup.dir.display(), socket_in(setup.dir));
        let (address, port, batch) = (setup.server.ip(), setup.server.port(), self.batch);
        let (path, socket) = (PLAIN_PATH.trim_start_matches('/'), socket.display());
        let sync =
            if self.is_synced { "queue.syncQueueFiles=\"on\" queue.checkpointInterval=\"1\"" } else { "" };
        let target = format!(
            "type=\"omhttp\" server=\"{address}\" serverport=\"{port}\" useHttps=\"off\" restpath=\"{path}\""
        );
        let queue = format!("queue.type=\"Disk\" queue.size=\"1000000\" queue.maxDiskSpace=\"4g\" {sync}");
        let config = format!(
            "global(workDirectory=\"{dir}\" maxMessageSize=\"8k\")\n\
             module(load=\"imptcp\")\n\
             module(load=\"omhttp\")\n\
             template(name=\"record\" type=\"string\" string=\"%rawmsg%\")\n\
             template(name=\"alone\" type=\"string\" string=\"[%rawmsg%]\")\n\
             ruleset(name=\"retry\" {queue} queue.filename=\"retries\") {{\n\
               action({target} template=\"alone\" batch=\"off\"\n\
                 action.resumeRetryCount=\"3\" action.resumeInterval=\"1\")\n\
             }}\n\
             ruleset(name=\"send\" queue.type=\"Direct\") {{\n\
               action({target} template=\"record\" batch=\"on\" batch.format=\"jsonarray\" batch.maxsize=\"{batch}\"\n\
                 retry=\"on\" retry.ruleset=\"retry\" action.resumeRetryCount=\"-1\" action.resumeInterval=\"1\"\n\
                 {queue} queue.filename=\"records\" queue.dequeueBatchSize=\"{batch}\")\n\
             }}\n\
             input(type=\"imptcp\" path=\"{socket}\" unlink=\"on\" ruleset=\"send\")\n",
        );
        let file = setup.dir.join("rsyslog.conf");
        fs::write(&file, config).expect("room for the configuration");
        let mut command = Command::new(&self.program);
        if let Some(modules) = &self.modules {
            command.arg("-M").arg(modules);
        }
        command.arg("-n").arg("-f").arg(file).arg("-i").arg(setup.dir.join("pid"));
        command
    }

    fn intake(&self, dir: &Path) -> Intake {
        Intake::Lines(socket_in(dir))
    }
}

fn socket_in(dir: &Path) -> PathBuf {
    dir.join("records.sock")
}
