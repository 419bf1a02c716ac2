//! `fieldsync setup`: connects a device to a server in one command. It writes a drop-in for the configuration and the
//! files that it names, applies them, and runs `doctor`.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Gid, Uid, User, chown, geteuid};
use tempfile::NamedTempFile;
use toml::{Table, Value};

use super::context::CommandContext;
use super::doctor::{self, DoctorArgs};
use super::failure::CommandFailure;
use crate::config::{Config, ConfigFile, DROP_IN_DIRECTORY, parse_layers};
use crate::config_file::ConfigLocation;
use crate::exit;

/// Read after the file that people edit, and before drop-ins of a fleet with higher numbers.
const DROP_IN_NAME: &str = "10-setup.toml";
const TOKEN_NAME: &str = "token";
const CA_NAME: &str = "ca.pem";
const STDIN: &str = "-";
const INPUT_BYTES_MAX: u64 = 1 << 20;
const SECRET_MODE: u32 = 0o600;
const PUBLIC_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;
const SERVICE_USER: &str = "fieldsync";
const SYSTEMD_RUNS: &str = "/run/systemd/system";
const DROP_IN_HEADER: &str =
    "# Written by \"fieldsync setup\", which replaces it. Later files in this directory override it.\n";

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Writes conf.d/10-setup.toml beside the configuration file, and copies the token
and the authorities beside it, readable by the daemon alone. Then it applies the
change and runs doctor. What an option does not name stays as it is.

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
    let location = ConfigLocation::new(args.config.as_deref());
    let directory = location.path().parent().unwrap_or(Path::new("."));
    let directory = fs::canonicalize(directory).map_err(|error| write_failure(directory, &error))?;
    let drop_in = directory.join(DROP_IN_DIRECTORY).join(DROP_IN_NAME);
    let mut settings = read_drop_in(&drop_in)?;
    set(&mut settings, "url", args.url.trim());
    let mut files = Vec::new();
    if let Some(source) = &args.token_file {
        let path = directory.join(TOKEN_NAME);
        set(&mut settings, "token_file", &path.to_string_lossy());
        files.push((path, read_token(source)?, SECRET_MODE));
    }
    if let Some(source) = &args.ca {
        let path = directory.join(CA_NAME);
        set(&mut settings, "ca_file", &path.to_string_lossy());
        files.push((path, read_input(source)?, PUBLIC_MODE));
    }
    if let Some(proxy) = &args.proxy {
        set(&mut settings, "proxy", proxy.trim());
    }
    let text = format!("{DROP_IN_HEADER}{settings}");
    let config = check_result(&location, &drop_in, &text)?;
    let owner = find_owner(&config);
    for (path, content, mode) in files {
        write_file(&path, &content, mode, owner)?;
        context.print_note(&format!("wrote {}", path.display()));
    }
    create_directory(&directory.join(DROP_IN_DIRECTORY))?;
    write_file(&drop_in, text.as_bytes(), PUBLIC_MODE, None)?;
    context.print_note(&format!("wrote {}", drop_in.display()));
    if args.no_apply {
        return Ok(exit::DONE);
    }
    if args.config.is_some() || !Path::new(SYSTEMD_RUNS).exists() {
        context.print_note("Apply it: send SIGHUP to fieldsyncd, or start it. Then: fieldsync doctor");
        return Ok(exit::DONE);
    }
    reload_service()?;
    doctor::run(&DoctorArgs::default(), context).await
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

fn read_input(source: &Path) -> Result<Vec<u8>, CommandFailure> {
    let read = || {
        let mut content = Vec::new();
        if source == Path::new(STDIN) {
            io::stdin().lock().take(INPUT_BYTES_MAX).read_to_end(&mut content)?;
        } else {
            fs::File::open(source)?.take(INPUT_BYTES_MAX).read_to_end(&mut content)?;
        }
        Ok(content)
    };
    read().map_err(|error: io::Error| {
        CommandFailure::failed(format!("cannot read {}: {error}. Nothing was changed.", source.display()))
    })
}

fn read_token(source: &Path) -> Result<Vec<u8>, CommandFailure> {
    let content = read_input(source)?;
    let token = content.trim_ascii();
    let is_word = !token.is_empty() && token.iter().all(u8::is_ascii_graphic);
    if !is_word {
        return Err(CommandFailure::failed(
            "the token must be one word of printable ASCII. Nothing was changed.",
        ));
    }
    Ok([token, b"\n"].concat())
}

/// The configuration with the new drop-in. One with a mistake is not written.
fn check_result(location: &ConfigLocation, drop_in: &Path, text: &str) -> Result<Config, CommandFailure> {
    let refused =
        |error: &dyn std::fmt::Display| CommandFailure::failed(format!("{error}. Nothing was changed."));
    let mut files = location.read().map_err(|error| refused(&error))?;
    files.retain(|file| !is_same_file(&file.path, drop_in));
    let later = files.iter().position(|file| {
        let is_drop_in = file.path.parent().is_some_and(|parent| parent.ends_with(DROP_IN_DIRECTORY));
        is_drop_in && file.path.file_name() > drop_in.file_name()
    });
    let file = ConfigFile { path: drop_in.to_owned(), text: text.to_owned() };
    files.insert(later.unwrap_or(files.len()), file);
    let loaded = parse_layers(&files, std::iter::empty()).map_err(|error| refused(&error))?;
    Ok(loaded.config)
}

fn is_same_file(path: &Path, drop_in: &Path) -> bool {
    path.canonicalize().is_ok_and(|path| path == drop_in)
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

fn create_directory(path: &Path) -> Result<(), CommandFailure> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(DIRECTORY_MODE))
            .map_err(|error| write_failure(path, &error)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(write_failure(path, &error)),
    }
}

/// Replaces a file as a whole. It is closed to others before it has its content.
fn write_file(
    path: &Path,
    content: &[u8],
    mode: u32,
    owner: Option<(Uid, Gid)>,
) -> Result<(), CommandFailure> {
    let write = || {
        let mut file = NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
        file.write_all(content)?;
        if let Some((user, group)) = owner {
            chown(file.path(), Some(user), Some(group))?;
        }
        file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|error: io::Error| write_failure(path, &error))
}

fn write_failure(path: &Path, error: &io::Error) -> CommandFailure {
    let message = format!("cannot write {}: {error}", path.display());
    if error.kind() == ErrorKind::PermissionDenied {
        return CommandFailure::new(
            exit::NOT_PERMITTED,
            format!("{message}. Run it as root: sudo fieldsync setup"),
        );
    }
    CommandFailure::failed(format!("{message}."))
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
