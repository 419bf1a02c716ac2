//! Servers that `NO_PROXY` exempts from the proxy of the environment.

use crate::support::daemon::{Counts, Home};
use crate::support::proxy::Proxy;
use crate::support::server::{Reply, ScriptedServer};
use crate::support::settings::Settings;

/// How often the proxy was asked for a tunnel to a local server, with these additional variables.
#[track_caller]
fn proxied(listen: &str, variables: &[(&str, &str)]) -> usize {
    let server = ScriptedServer::start_at(listen.parse().unwrap(), Reply::correct);
    let proxy = Proxy::start("200 Connection established");
    let home = Home::new(&Settings::for_server(&server.url()));
    let mut command = home.command();
    command.env("http_proxy", format!("http://{}", proxy.address));
    let port = server.address.port().to_string();
    command.envs(variables.iter().map(|(name, value)| (name, value.replace("PORT", &port))));
    let daemon = home.start_by(command);
    daemon.enqueue_many(1);
    assert_eq!(daemon.wait_until_done(), Counts::all_synced(1), "{}", daemon.log());
    proxy.heads().len()
}

#[test]
fn a_server_that_is_named_by_its_address_is_exempt_in_every_form_of_the_list() {
    const V4: &str = "127.0.0.1:0";
    for (listen, list) in [
        (V4, "*"),
        (V4, "127.0.0.1"),
        (V4, "127.0.0.1:PORT"),
        (V4, "10.0.0.1 127.0.0.0/8"),
        ("[::1]:0", "*"),
        ("[::1]:0", "[::1]"),
        ("[::1]:0", "[::1]:PORT"),
        ("[::1]:0", "::1"),
    ] {
        assert_eq!(proxied(listen, &[("NO_PROXY", list)]), 0, "{list}");
    }
    for list in ["127.0.0.2", "127.0.0.1:1", "127.0.0.128/25", ""] {
        assert_eq!(proxied(V4, &[("NO_PROXY", list)]), 1, "{list}");
    }
    assert_eq!(proxied(V4, &[("no_proxy", "*")]), 0);
    assert_eq!(proxied(V4, &[("NO_PROXY", ""), ("no_proxy", "127.0.0.1")]), 0);
}
