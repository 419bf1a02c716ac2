//! What a configuration may be, and a person should know of.

use crate::config;
use crate::transport::credential;

/// Of a token that is shown to everyone on the way to the server.
pub(crate) const TOKEN_IN_CLEAR: &str = "server.url begins with http://: the token and all records are sent unencrypted, and everyone on the way to the server can \
     read them and use the token. Use https:// where the server has it";

/// Says that the token is sent unencrypted, where it is. The daemon raises an alert by this, which is logged as others are.
pub(crate) fn token_in_clear(server: &config::Server) -> Option<&'static str> {
    (server.is_unencrypted() && credential::token_file(server).is_some()).then_some(TOKEN_IN_CLEAR)
}
