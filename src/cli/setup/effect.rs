//! Whether what was asked for is in effect once all layers are merged, and whether the token belongs to the server.

use std::path::{Path, PathBuf};

use toml::Table;
use url::Url;

use super::SetupArgs;
use crate::api::Configuration;
use crate::cli::context::CommandContext;
use crate::cli::failure::CommandFailure;
use crate::client::decode_json;
use crate::config::{
    ConfigFile, DROP_IN_DIRECTORY, LoadedConfig, Server, VARIABLE_SOURCE_PREFIX, parse_layers,
};
use crate::config_file::ConfigLocation;

/// Where systemd looks for a token that `server.token_file` does not name.
const SYSTEMD_TOKENS: [&str; 4] = [
    "/etc/credstore/fieldsync-token",
    "/etc/credstore.encrypted/fieldsync-token",
    "/run/credstore/fieldsync-token",
    "/run/credstore.encrypted/fieldsync-token",
];

/// The configuration with the new drop-in. One with a mistake is not written.
pub(super) fn merge(
    location: &ConfigLocation,
    drop_in: &Path,
    text: &str,
) -> Result<LoadedConfig, CommandFailure> {
    let refused =
        |error: &dyn std::fmt::Display| CommandFailure::failed(format!("{error}. Nothing was changed."));
    let mut read = location.read().map_err(|error| refused(&error))?;
    read.files.retain(|file| !is_same_file(&file.path, drop_in));
    let later = read.files.iter().position(|file| {
        let is_drop_in = file.path.parent().is_some_and(|parent| parent.ends_with(DROP_IN_DIRECTORY));
        is_drop_in && file.path.file_name() > drop_in.file_name()
    });
    let file = ConfigFile { path: drop_in.to_owned(), text: text.to_owned() };
    read.files.insert(later.unwrap_or(read.files.len()), file);
    parse_layers(&read, std::iter::empty()).map_err(|error| refused(&error))
}

/// The server of the files as they are. One that a mistake hides counts as none.
pub(super) fn present_server(location: &ConfigLocation) -> Server {
    let parsed = location.read().and_then(|read| parse_layers(&read, std::iter::empty()));
    parsed.map(|loaded| loaded.config.server).unwrap_or_default()
}

fn is_same_file(path: &Path, drop_in: &Path) -> bool {
    path.canonicalize().is_ok_and(|path| path == drop_in)
}

/// What was asked for, as the daemon shows it.
pub(super) struct Request {
    values: Vec<(&'static str, String)>,
}

impl Request {
    /// `settings` is the new drop-in.
    pub(super) fn new(settings: &Table, args: &SetupArgs) -> Result<Self, CommandFailure> {
        let alone = vec![ConfigFile { path: PathBuf::new(), text: settings.to_string() }];
        let alone = parse_layers(&alone.into(), std::iter::empty())
            .map_err(|error| CommandFailure::failed(format!("{error}. Nothing was changed.")))?;
        let asked = [
            ("server.url", true),
            ("server.token_file", args.token_file.is_some()),
            ("server.ca_file", args.ca.is_some()),
            ("server.proxy", args.proxy.is_some()),
        ];
        let is_asked = |key: &str| asked.iter().find(|(name, is_asked)| *is_asked && *name == key);
        let values = alone.config.values().into_iter();
        let values = values.filter_map(|(key, value)| Some((is_asked(&key)?.0, value.as_str()?.to_owned())));
        Ok(Self { values: values.collect() })
    }

    /// Fails if a later file overrides it.
    pub(super) fn check_files(&self, merged: &LoadedConfig) -> Result<(), CommandFailure> {
        let configuration = Configuration::new(&merged.config, &merged.sources, None);
        match self.find_override(&configuration) {
            None => Ok(()),
            Some(text) => Err(CommandFailure::failed(format!("{text}. Nothing was changed."))),
        }
    }

    /// Fails if a variable of the running service overrides it. The files do not show it.
    pub(super) async fn check_variables(
        &self,
        context: &mut CommandContext<'_>,
        named: Option<&Path>,
    ) -> Result<(), CommandFailure> {
        let Some(mut configuration) = ask_daemon(context).await else { return Ok(()) };
        // The daemon that responds may belong to other files.
        let directory = named.and_then(Path::parent).map(|directory| format!("{}/", directory.display()));
        let is_of_directory = |directory: &String| {
            configuration.values.iter().any(|value| value.source.starts_with(directory.as_str()))
        };
        if directory.as_ref().is_some_and(|directory| !is_of_directory(directory)) {
            return Ok(());
        }
        configuration.values.retain(|value| value.source.starts_with(VARIABLE_SOURCE_PREFIX));
        match self.find_override(&configuration) {
            None => Ok(()),
            Some(text) => Err(CommandFailure::failed(format!("{text}. Nothing was changed."))),
        }
    }

    /// Fails if the daemon uses something else after the reload.
    pub(super) async fn check_daemon(&self, context: &mut CommandContext<'_>) -> Result<(), CommandFailure> {
        let Some(configuration) = ask_daemon(context).await else { return Ok(()) };
        let failed = |text: String| {
            Err(CommandFailure::failed(format!("the files are written, but not in effect: {text}.")))
        };
        match (&configuration.refused, self.find_override(&configuration)) {
            (Some(refusal), _) => failed(refusal.message.clone()),
            (None, Some(text)) => failed(text),
            (None, None) => Ok(()),
        }
    }

    fn find_override(&self, configuration: &Configuration) -> Option<String> {
        self.values.iter().find_map(|(key, wanted)| {
            let found = configuration.values.iter().find(|value| value.key == *key)?;
            let is_wanted = found.value.as_str().is_some_and(|value| value == wanted);
            (!is_wanted).then(|| match found.source.strip_prefix(VARIABLE_SOURCE_PREFIX) {
                Some(name) => format!(
                    "the environment variable {name} of the service sets {key}, and overrides what you ask for. \
                     Remove it first: systemctl edit fieldsync"
                ),
                None => format!(
                    "{key} is set in {}, which is read later and overrides what you ask for. Change it there, or \
                     remove it there first",
                    found.source
                ),
            })
        })
    }
}

/// `None` without a daemon, or if it is older.
async fn ask_daemon(context: &mut CommandContext<'_>) -> Option<Configuration> {
    let response = context.client.get("/v1/configuration").await.ok()?;
    decode_json(&response).ok()
}

/// Whether the token of one server must not be sent to the other.
pub(super) fn is_other_server(present: &str, new: &str) -> bool {
    let origin = |text: &str| Url::parse(text).ok().map(|url| url.origin());
    !present.is_empty() && origin(present) != origin(new)
}

/// The token that the daemon would send with this configuration.
pub(super) fn find_token(server: &Server, is_service: bool) -> Option<PathBuf> {
    let of_systemd = || SYSTEMD_TOKENS.iter().map(PathBuf::from).find(|path| path.exists());
    server.token_file.clone().or_else(|| if is_service { of_systemd() } else { None })
}

pub(super) fn refuse_old_token(present: &str, new: &str, token: &Path) -> CommandFailure {
    CommandFailure::failed(format!(
        "the token in {} belongs to {present}, and would be sent to {new}. Name the token of the new server with \
         --token-file FILE, or add --keep-token if the new server may see it. Nothing was changed.",
        token.display()
    ))
}
