//! What a configuration may be, and a person should know of.

use crate::config::{self, Config};
use crate::transport::credential;

/// Of a token that is shown to everyone on the way to the server.
pub(crate) const TOKEN_IN_CLEAR: &str = "server.url begins with http://: the token and all records are sent unencrypted, and everyone on the way to the server can \
     read them and use the token. Use https:// where the server has it";

/// Says that the token is sent unencrypted, where it is.
pub(super) fn token_in_clear(server: &config::Server) -> Option<&'static str> {
    (server.is_unencrypted() && credential::token_file(server).is_some()).then_some(TOKEN_IN_CLEAR)
}

/// For the log: at the start, and at each reload.
pub(super) fn log_all(config: &Config) {
    if let Some(warning) = token_in_clear(&config.server) {
        tracing::warn!("{warning}");
    }
}
