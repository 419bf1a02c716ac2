//! Reads and checks the files that the options of `fieldsync setup` name.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::cli::failure::CommandFailure;
use crate::transport::tls;

const STDIN: &str = "-";
/// The daemon's limit, too.
const TOKEN_BYTES_MAX: u64 = 64 << 10;
const AUTHORITIES_BYTES_MAX: u64 = 1 << 20;

/// The token with a newline.
pub(super) fn read_token(source: &Path) -> Result<Vec<u8>, CommandFailure> {
    let content = read_input(source, TOKEN_BYTES_MAX)?;
    let token = content.trim_ascii();
    let is_word = !token.is_empty() && token.iter().all(u8::is_ascii_graphic);
    if !is_word {
        return Err(CommandFailure::failed(
            "the token must be one word of printable ASCII. Nothing was changed.",
        ));
    }
    Ok([token, b"\n"].concat())
}

/// Authorities as PEM that the daemon can use.
pub(super) fn read_authorities(source: &Path) -> Result<Vec<u8>, CommandFailure> {
    let content = read_input(source, AUTHORITIES_BYTES_MAX)?;
    tls::check_authorities(&content).map_err(|reason| {
        CommandFailure::failed(format!(
            "{} cannot be used: {reason}. --ca takes a PEM file with at least one certificate. Nothing was changed.",
            source.display()
        ))
    })?;
    Ok(content)
}

fn read_input(source: &Path, bytes_max: u64) -> Result<Vec<u8>, CommandFailure> {
    let name = if source == Path::new(STDIN) { "the input".into() } else { source.display().to_string() };
    let read = || {
        let mut content = Vec::new();
        if source == Path::new(STDIN) {
            io::stdin().lock().take(bytes_max + 1).read_to_end(&mut content)?;
        } else {
            File::open(source)?.take(bytes_max + 1).read_to_end(&mut content)?;
        }
        Ok(content)
    };
    let content = read().map_err(|error: io::Error| {
        CommandFailure::failed(format!("cannot read {name}: {error}. Nothing was changed."))
    })?;
    if content.len() as u64 > bytes_max {
        return Err(CommandFailure::failed(format!(
            "{name} is larger than {} KiB. Nothing was changed.",
            bytes_max >> 10
        )));
    }
    Ok(content)
}
