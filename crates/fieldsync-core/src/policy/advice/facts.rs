//! What the sentences depend on.

use std::path::Path;

use crate::config::ConfigSources;
use crate::model::{Backlog, DeniedSet, LastError, Link, Phase, WaitCause};

/// The state of the device.
#[derive(Clone, Copy, Debug)]
pub struct DeviceFacts<'a> {
    /// On the wall.
    pub now: u64,
    /// Of the pause and the disk.
    pub backlog: &'a Backlog,
    /// Of the way to the server.
    pub link: &'a Link,
    /// Of the planner.
    pub planner: PlannerFacts<'a>,
    /// The server; none if none is configured.
    pub server: Option<ServerName<'a>>,
    /// The name of the user who paused sending, if it is known.
    pub paused_by: Option<&'a str>,
    /// The file or directory that people edit to configure the device.
    pub config_path: &'a Path,
    /// Where the keys of the configuration are set.
    pub sources: &'a ConfigSources,
    /// What the device shows the server to prove who it is.
    pub credential: CredentialFacts,
    /// Why a later configuration is not in effect; none if the present one is.
    pub refusal: Option<&'a str>,
    /// The limit of the queue that is reached, if one is.
    pub full_queue: Option<&'a FullQueue>,
}

/// A limit of the queue that is reached: new records are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullQueue {
    /// Its configuration key.
    pub key: &'static str,
    /// The user whose share of the limit is used up; none if the whole queue is full.
    pub user: Option<String>,
}

/// What the device shows the server to prove who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CredentialFacts {
    /// A token is configured.
    pub has_token: bool,
    /// A client certificate is configured.
    pub has_certificate: bool,
}

/// The state of the planner.
#[derive(Clone, Copy, Debug)]
pub struct PlannerFacts<'a> {
    /// What it does.
    pub phase: Phase,
    /// When it continues by itself, in wall milliseconds.
    pub until: Option<u64>,
    /// What it waits for.
    pub wait_cause: Option<WaitCause>,
    /// Batches that are denied while others get through.
    pub denied: &'a [DeniedSet],
    /// Whether a file of this device, and not the server, is why nothing is sent.
    pub is_local_error: bool,
    /// Why the last send failed; none if it did not.
    pub last_failure: Option<&'a LastError>,
    /// When the first send of the present outage failed, in wall milliseconds; none after a success.
    pub outage_since: Option<u64>,
    /// When the batch in flight was sent, in wall milliseconds.
    pub sent_at: Option<u64>,
    /// How long the server may take for a response.
    pub time_limit_ms: u64,
}

/// The names of the server, as people know them.
#[derive(Clone, Copy, Debug)]
pub struct ServerName<'a> {
    /// `https://crm.example.com/base`
    pub url: &'a str,
}

impl<'a> ServerName<'a> {
    /// `crm.example.com`
    pub fn host(self) -> &'a str {
        let authority = self.authority();
        match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => host,
            _ => authority,
        }
    }

    /// `crm.example.com:443`
    pub fn host_and_port(self) -> String {
        let authority = self.authority();
        if self.host().len() < authority.len() {
            return authority.to_owned();
        }
        let port = if self.url.starts_with("https:") { 443 } else { 80 };
        format!("{authority}:{port}")
    }

    fn authority(self) -> &'a str {
        let rest = self.url.split_once("://").map_or(self.url, |(_, rest)| rest);
        rest.split('/').next().unwrap_or_default()
    }
}
