//! `fieldsync setup`: connects a device to a server in one command. It writes a drop-in for the configuration and the
//! files that it names, applies them, and runs `doctor`.

mod effect;
mod input;
mod staged_file;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Gid, Uid, User, geteuid};
use toml::{Table, Value};

use effect::Request;
use input::{read_authorities, read_token};
use staged_file::{StagedFile, create_directory, write_failure};

use super::context::CommandContext;
use super::doctor::{self, DoctorArgs};
use super::failure::CommandFailure;
use crate::config::{Config, DROP_IN_DIRECTORY};
use crate::config_file::ConfigLocation;
use crate::exit;

/// Read after the file that people edit, and before drop-ins of a fleet with higher numbers.
const DROP_IN_NAME: &str = "10-setup.toml";
const TOKEN_NAME: &str = "token";
/// In turn with the first.
const SECOND_TOKEN_NAME: &str = "token-2";
const CA_NAME: &str = "ca.pem";
const SECRET_MODE: u32 = 0o600;
const PUBLIC_MODE: u32 = 0o644;
const SERVICE_USER: &str = "fieldsync";
const SYSTEMD_RUNS: &str = "/run/systemd/system";
const DROP_IN_HEADER: &str =
    "# Written by \"fieldsync setup\", which replaces it. Later files in this directory override it.\n";

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Writes conf.d/10-setup.toml beside the configuration file, and copies the token
and the authorities beside it, readable by the daemon alone. Then it applies the
change and runs doctor. What an option does not name stays as it is. It changes
nothing if a later file or a variable of the service would override it.

Examples:
  sudo fieldsync setup --url https://crm.example.com --token-file token
  pass show crm | sudo fieldsync setup --url https://crm.example.com --token-file -
  fieldsync setup --url https://crm.example.com --no-apply   # in an image")]
pub(crate) struct SetupArgs {
    /// Base URL of the server
    #[arg(long)]
    url: String,
    /// File with the bearer token, or - for standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Send the present token to a server at another address, too
    #[arg(long, conflicts_with = "token_file")]
    keep_token: bool,
    /// PEM file of the authorities to trust instead of those of the system
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// HTTP proxy: auto, none, or a URL
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Only write the files: do not reload the service, and do not run doctor
    #[arg(long)]
    no_apply: bool,
    /// Configuration file of the daemon [default: /etc/fieldsync/config.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(crate) async fn run(args: &SetupArgs, context: &mut CommandContext<'_>) -> Result<u8, CommandFailure> {
    let url = args.url.trim();
    if url.is_empty() {
        return Err(CommandFailure::failed(
            "--url must name a server, for example https://crm.example.com. Nothing was changed.",
        ));
    }
    if !url.contains("://") {
        return Err(CommandFailure::failed(
            "the URL must begin with https:// or http://, for example https://crm.example.com. Nothing was changed.",
        ));
    }
    let location = ConfigLocation::new(args.config.as_deref());
    let directory = location.path().parent().unwrap_or(Path::new("."));
    let directory = fs::canonicalize(directory).map_err(|error| write_failure(directory, &error))?;
    let drop_in = directory.join(DROP_IN_DIRECTORY).join(DROP_IN_NAME);
    let mut settings = read_drop_in(&drop_in)?;
    set(&mut settings, "url", url);
    let present = effect::present_server(&location);
    let is_other = effect::is_other_server(&present.url, url);
    let mut files = Vec::new();
    if let Some(source) = &args.token_file {
        let path = choose_token_path(&directory, present.token_file.as_deref(), is_other);
        set(&mut settings, "token_file", &path.to_string_lossy());
        files.push((path, read_token(source)?, SECRET_MODE));
    }
    if let Some(source) = &args.ca {
        let path = directory.join(CA_NAME);
        set(&mut settings, "ca_file", &path.to_string_lossy());
        files.push((path, read_authorities(source)?, PUBLIC_MODE));
    }
    if let Some(proxy) = &args.proxy {
        set(&mut settings, "proxy", proxy.trim());
    }
    let text = format!("{DROP_IN_HEADER}{settings}");
    let merged = effect::merge(&location, &drop_in, &text)?;
    let request = Request::new(&settings, args)?;
    request.check_files(&merged)?;
    request.check_variables(context, args.config.as_deref()).await?;
    let server = &merged.config.server;
    if is_other
        && args.token_file.is_none()
        && !args.keep_token
        && let Some(token) = effect::find_token(server, args.config.is_none())
    {
        return Err(effect::refuse_old_token(&present.url, &server.url, &token));
    }
    let old_token = present.token_file.filter(|old| {
        old.parent() == Some(&directory) && is_own_token(old) && server.token_file.as_ref() != Some(old)
    });
    write_files(context, &drop_in, &text, files, find_owner(&merged.config))?;
    if args.no_apply {
        return Ok(exit::DONE);
    }
    if args.config.is_some() || !Path::new(SYSTEMD_RUNS).exists() {
        context.print_note("Apply it: send SIGHUP to fieldsyncd, or start it. Then: fieldsync doctor");
        return Ok(exit::DONE);
    }
    reload_service()?;
    request.check_daemon(context).await?;
    if let Some(old) = old_token {
        // Until the reload, the daemon uses it for the server that it still has.
        fs::remove_file(old).ok();
    }
    doctor::run(&DoctorArgs::default(), context).await
}

/// A new token for another server has a file of its own: the daemon uses a changed file at once, and the URL that
/// belongs to it only after the drop-in is in its place and read.
fn choose_token_path(directory: &Path, present: Option<&Path>, is_other_server: bool) -> PathBuf {
    let (first, second) = (directory.join(TOKEN_NAME), directory.join(SECOND_TOKEN_NAME));
    let is_first = present == Some(first.as_path());
    let is_second = present == Some(second.as_path());
    if (is_second && !is_other_server) || (is_first && is_other_server) { second } else { first }
}

fn is_own_token(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == TOKEN_NAME || name == SECOND_TOKEN_NAME)
}

/// All are written before the first is put in its place. The drop-in, which names the others, is last.
fn write_files(
    context: &mut CommandContext<'_>,
    drop_in: &Path,
    text: &str,
    files: Vec<(PathBuf, Vec<u8>, u32)>,
    owner: Option<(Uid, Gid)>,
) -> Result<(), CommandFailure> {
    create_directory(drop_in.parent().unwrap_or(Path::new(".")))?;
    let mut staged = Vec::new();
    for (path, content, mode) in files {
        staged.push(StagedFile::write(&path, &content, mode, owner)?);
    }
    staged.push(StagedFile::write(drop_in, text.as_bytes(), PUBLIC_MODE, None)?);
    for file in staged {
        context.print_note(&format!("wrote {}", file.commit()?.display()));
    }
    Ok(())
}

fn set(settings: &mut Table, key: &str, value: &str) {
    let server = settings.entry("server").or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(server) = server {
        server.insert(key.to_owned(), Value::String(value.to_owned()));
    }
}

/// The drop-in of an earlier setup. One that cannot be parsed is not replaced: a person has edited it.
fn read_drop_in(path: &Path) -> Result<Table, CommandFailure> {
    match fs::read_to_string(path) {
        Ok(text) => text.parse().map_err(|_| {
            CommandFailure::failed(format!(
                "{} is not valid TOML. Correct it or move it away, then run this command again.",
                path.display()
            ))
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Table::new()),
        Err(error) => Err(write_failure(path, &error)),
    }
}

/// The user of the daemon, which must be able to read the secrets; only root can give files away.
fn find_owner(config: &Config) -> Option<(Uid, Gid)> {
    if !geteuid().is_root() {
        return None;
    }
    let state_dir = fs::metadata(config.state_dir()).ok();
    state_dir
        .map(|directory| (Uid::from_raw(directory.uid()), Gid::from_raw(directory.gid())))
        .or_else(|| User::from_name(SERVICE_USER).ok().flatten().map(|user| (user.uid, user.gid)))
}

fn reload_service() -> Result<(), CommandFailure> {
    let ran = Command::new("systemctl").args(["reload-or-restart", "fieldsync.service"]).status();
    let problem = match ran {
        Ok(status) if status.success() => return Ok(()),
        Ok(_) => "the files are written, but the service did not take them".to_owned(),
        Err(error) => format!("the files are written, but systemctl cannot be run: {error}"),
    };
    Err(CommandFailure::failed(format!("{problem}. See: systemctl status fieldsync; fieldsync doctor")))
}
