//! `fieldsync config`: what is in effect, and where each value comes from.

use std::path::PathBuf;

use super::context::CommandContext;
use super::failure::CommandFailure;
use super::format::strip_controls;
use super::table::{Column, TextTable, prose_column, whole_column};
use crate::api::Configuration;
use crate::client::ClientError;
use crate::config_file::ConfigLocation;
use crate::exit;

const COLUMNS: [Column; 3] = [whole_column("KEY"), prose_column("VALUE"), prose_column("SOURCE")];
const NOT_FOUND: u16 = 404;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The daemon says what it uses: files, and variables of its service, which other
programs do not see. Without a daemon, the files are read.

Examples:
  fieldsync config
  fieldsync config | grep -v default    # what differs from the defaults")]
pub(crate) struct ConfigArgs {
    /// File or directory to read if no daemon responds [default: /etc/fieldsync/config.toml]
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
}

pub(crate) async fn run(args: &ConfigArgs, context: &mut CommandContext<'_>) -> Result<u8, CommandFailure> {
    match context.client.get("/v1/configuration").await {
        Ok(response) => {
            context
                .print_response(&response, |context, configuration| print_values(context, &configuration))?;
        }
        Err(error @ (ClientError::NoDaemon { .. } | ClientError::Refused { status: NOT_FOUND, .. })) => {
            let configuration = read_files(args)?;
            context.print_note(&match error {
                ClientError::NoDaemon { .. } => {
                    format!("{error}: this is what the files say. Variables of the service are not in it.")
                }
                _ => "The daemon is older than this command: this is what the files say.".to_owned(),
            });
            if context.json {
                let line = serde_json::to_string(&configuration)
                    .map_err(|error| CommandFailure::failed(format!("it cannot be written: {error}.")))?;
                context.print_line(line)?;
            } else {
                print_values(context, &configuration)?;
            }
        }
        Err(error) => return Err(error.into()),
    }
    Ok(exit::DONE)
}

fn read_files(args: &ConfigArgs) -> Result<Configuration, CommandFailure> {
    let loaded = ConfigLocation::new(args.config.as_deref()).load();
    let loaded = loaded.map_err(|error| CommandFailure::failed(format!("{error}.")))?;
    Ok(Configuration::new(&loaded.config, &loaded.sources, None))
}

fn print_values(
    context: &mut CommandContext<'_>,
    configuration: &Configuration,
) -> Result<(), CommandFailure> {
    if let Some(refusal) = &configuration.refused {
        let message = strip_controls(&refusal.message);
        context.print_wrapped(format!("Refused: {message}. The last good configuration is in use:"))?;
        context.print_line("")?;
    }
    let mut table = TextTable::new(&COLUMNS);
    for value in &configuration.values {
        let shown = if value.value.is_null() { "not set".to_owned() } else { value.value.to_string() };
        table.push_row([
            strip_controls(&value.key).into(),
            strip_controls(&shown).into(),
            strip_controls(&value.source).into(),
        ]);
    }
    table.print(context)
}
