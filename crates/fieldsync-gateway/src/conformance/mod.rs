//! `fieldsync-gateway conformance`: holds any server against the wire protocol, point by point.
//!
//! The kit sends what devices send, and what they never send, and judges the responses alone. It knows nothing of the
//! gateway beside it. Where the protocol leaves a choice, every choice holds.
//!
//! | files | content |
//! |---|---|
//! | `point`, `finding` | what a point is, and how it ends |
//! | `sending`, `responses`, `batches`, `records`, `order`, `lookup`, `hang_up`, `token`, `hostile_*`, `large_input`, `restart` | the points, each list with its checks |
//! | `sample`, `request`, `encoding` | what the kit sends |
//! | `server`, `settling`, `concurrent`, `refusal`, `response` | exchanges with the server, and what points share in judging them |
//! | `preparation`, `size_limits` | what is found out before the points |
//! | `report`, `quote` | what is printed |

mod batches;
mod concurrent;
mod encoding;
mod finding;
mod hang_up;
mod hostile_bodies;
mod hostile_encodings;
mod hostile_headers;
mod large_input;
mod lookup;
mod order;
mod point;
mod preparation;
mod quote;
mod records;
mod refusal;
mod report;
mod request;
mod response;
mod responses;
mod restart;
mod sample;
mod sending;
mod server;
mod settling;
mod size_limits;
mod token;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Parser;
use hyper::Uri;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject};
use tokio::runtime::Builder;

use crate::causes::with_causes;
use crate::client_tls::load_system_roots;
use crate::exit;
use crate::failure::report_failure;
use crate::http_client::parse_http_url;
use crate::option_values::PositiveDuration;
use crate::protocol::wire::BATCH_PATH;
use point::Point;
use preparation::{PreparationError, prepare};
use report::ConformanceReport;
use server::{ServerAddress, ServerSetupError, TestedServer};

/// Wrong usage of this command (`EX_USAGE`).
pub(crate) const CONFORMANCE_USAGE: u8 = 64;

/// All points, in the order in which they are judged. Those that may hurt a server come last.
const SECTIONS: [&[Point]; 13] = [
    sending::POINTS,
    responses::POINTS,
    batches::POINTS,
    records::POINTS,
    order::POINTS,
    lookup::POINTS,
    hang_up::POINTS,
    token::POINTS,
    hostile_bodies::POINTS,
    hostile_headers::POINTS,
    hostile_encodings::POINTS,
    large_input::POINTS,
    restart::POINTS,
];

/// Hold any server against the wire protocol, point by point
#[derive(Debug, Parser)]
#[command(
    name = "conformance",
    after_help = "\
The server applies the records of this test: do not name one in production. It
must accept records of any device. Each point uses a device of its own.

Exit status: 0 every point holds or was skipped, 1 a point failed or nothing
responds at the URL, 64 wrong usage.

Example:
  fieldsync-gateway conformance http://127.0.0.1:8080 \\
      --token-file token --restart-command 'systemctl restart my-server'"
)]
pub struct ConformanceCommand {
    /// http or https URL of the server, without a path
    #[arg(value_name = "URL")]
    url: String,
    /// Path of the batch endpoint
    #[arg(long, value_name = "PATH", default_value = BATCH_PATH)]
    path: String,
    /// File with the bearer token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// PEM file of the authorities that sign the server's certificate [default: those of the system]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Shell command that ends the server, starts it again and returns; without it, points about restarts are skipped
    #[arg(long, value_name = "COMMAND")]
    restart_command: Option<String>,
    /// How long the server may take for a response
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    time_limit: PositiveDuration,
    /// Type of the records: one that the server applies
    #[arg(long, value_name = "TYPE", default_value = "Visits")]
    record_type: String,
    /// Print JSON, at the end
    #[arg(long)]
    json: bool,
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
enum ConformanceError {
    #[error(
        "URL must be an http or https URL of a server, with a port up to 65535 and without user, password and path"
    )]
    Url,
    #[error("--path must be a path below the root that begins with a slash, such as {BATCH_PATH}")]
    Path,
    #[error("cannot read the token file {}", path.display())]
    TokenFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "the token file {} has no token for any device in clear text: the kit can use neither a line `sha256:…` \
         nor one for a single device",
        .0.display()
    )]
    NoToken(PathBuf),
    #[error("cannot read the authorities in {}", path.display())]
    AuthorityFile {
        path: PathBuf,
        #[source]
        source: pem::Error,
    },
    #[error("{} has a certificate that cannot be an authority", path.display())]
    Authority {
        path: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error(transparent)]
    Setup(#[from] ServerSetupError),
    #[error("no point was judged at {url}")]
    Unprepared {
        url: String,
        #[source]
        source: PreparationError,
    },
    #[error("cannot write to standard output")]
    Output(#[from] io::Error),
    #[error("cannot start")]
    Start(#[source] io::Error),
}

impl ConformanceError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Url
            | Self::Path
            | Self::TokenFile { .. }
            | Self::NoToken(_)
            | Self::AuthorityFile { .. }
            | Self::Authority { .. }
            | Self::Setup(_) => CONFORMANCE_USAGE,
            Self::Unprepared { .. } | Self::Output(_) | Self::Start(_) => exit::FAILED,
        }
    }
}

/// Runs the command, and returns the exit code for the process.
pub fn run_conformance_command(command: &ConformanceCommand) -> u8 {
    let ended = Builder::new_current_thread().enable_all().build().map_err(ConformanceError::Start).and_then(
        |runtime| {
            let ended = runtime.block_on(judge_server(command));
            // A restart command that does not end must not keep this process.
            runtime.shutdown_background();
            ended
        },
    );
    match ended {
        Ok(true) => exit::DONE,
        Ok(false) => exit::FAILED,
        Err(error) => report_failure(&error, error.exit_code()),
    }
}

/// Whether all points hold that could be judged.
async fn judge_server(command: &ConformanceCommand) -> Result<bool, ConformanceError> {
    let origin = parse_http_url(&command.url)
        .filter(|uri| matches!(uri.path(), "" | "/") && uri.query().is_none())
        .ok_or(ConformanceError::Url)?;
    let path = command.path.trim_end_matches('/');
    if !path.starts_with('/') || path.parse::<Uri>().is_err() {
        return Err(ConformanceError::Path);
    }
    let url = format!("{}{path}", command.url.trim_end_matches('/'));
    let token = command.token_file.as_deref().map(read_token).transpose()?;
    let server = TestedServer::new(ServerAddress {
        origin,
        path: path.to_owned(),
        token: token.clone(),
        roots: load_roots(command.ca.as_deref())?,
        time_limit: command.time_limit.0,
        record_type: command.record_type.clone(),
        restart_command: command.restart_command.clone(),
    })?;
    let mut report = ConformanceReport::new(url.clone());
    if let Err(source) = prepare(&server).await {
        let error = ConformanceError::Unprepared { url, source };
        if command.json {
            report.print_error(with_causes(&error))?;
        }
        return Err(error);
    }
    for point in SECTIONS.into_iter().flatten() {
        let ended = (point.check)(&server).await;
        report.add(point, ended, token.as_deref(), command.json)?;
    }
    report.print_end(command.json)?;
    Ok(report.all_hold())
}

/// The first line that is a token for any device: the file may be that of a gateway.
fn read_token(path: &Path) -> Result<String, ConformanceError> {
    let text = fs::read_to_string(path)
        .map_err(|source| ConformanceError::TokenFile { path: path.into(), source })?;
    let is_token = |line: &&str| {
        let is_usable = !line.starts_with('#') && !line.starts_with("sha256:");
        is_usable && !line.is_empty() && !line.contains(char::is_whitespace)
    };
    let token = text.lines().map(str::trim).find(is_token);
    token.map(Into::into).ok_or_else(|| ConformanceError::NoToken(path.into()))
}

fn load_roots(path: Option<&Path>) -> Result<RootCertStore, ConformanceError> {
    let Some(path) = path else { return Ok(load_system_roots()) };
    let fail = |source| ConformanceError::AuthorityFile { path: path.into(), source };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(fail)? {
        roots
            .add(certificate.map_err(fail)?)
            .map_err(|source| ConformanceError::Authority { path: path.into(), source })?;
    }
    if roots.is_empty() {
        return Err(fail(pem::Error::NoItemsFound));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_point_has_an_id_of_its_own_a_title_and_a_paragraph() {
        let points: Vec<&Point> = SECTIONS.into_iter().flatten().collect();
        let ids: HashSet<&str> = points.iter().map(|point| point.id).collect();
        assert_eq!(ids.len(), points.len());
        assert!(points.iter().all(|point| point.id.contains('.') && !point.title.is_empty()));
        assert!(points.iter().all(|point| !point.paragraph.is_empty()));
    }
}
