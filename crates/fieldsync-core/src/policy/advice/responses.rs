//! What the last response means for people: a stop, which a person must end, or a failure that passes by itself.

use super::connect::{describe_connect_failure, find_link_fault};
use super::obstacle::{BY_ITSELF, Obstacle};
use super::places::locate_keys;
use super::{CredentialFacts, DeviceFacts, RESPONSE_WAIT_MIN_MS};
use crate::api::{BatchOutcome, SyncReason};
use crate::model::{ConnectFailure, LastError};
use crate::policy::health::needs_person;

const ADMINISTRATOR: &str =
    "wait; if it lasts, tell the administrator of the server. To try now: fieldsync sync";

/// What a person must end, by the result of the last send. It counts until another result comes, whatever the daemon
/// does meanwhile.
pub(super) fn find_stop(device: &DeviceFacts<'_>) -> Option<Obstacle> {
    // While others get through, the denial is about some records alone.
    if !device.planner.denied.is_empty() {
        return None;
    }
    let error = device.planner.last_failure?;
    match outcome_of(error)? {
        BatchOutcome::Unauthorized => Some(describe_stop(device, SyncReason::AuthRequired)),
        BatchOutcome::Misconfigured => Some(describe_stop(device, SyncReason::Misconfigured)),
        BatchOutcome::Refused | BatchOutcome::TooLarge | BatchOutcome::EncodingRefused => {
            is_lasting(device).then(|| describe_refusal(error))
        }
        BatchOutcome::Interfered => Some(describe_other_site(error)),
        BatchOutcome::Unreachable => {
            let fault = describe_connect_failure(device, device.link.failure.unwrap_or_default());
            Some(fault).filter(|fault| needs_person(fault.reason))
        }
        // The request was sent, and what came back shows that nothing there can take it.
        BatchOutcome::ConnectionLost => {
            let failure = device.link.failure.filter(|failure| *failure == ConnectFailure::NotHttp)?;
            Some(describe_connect_failure(device, failure))
        }
        _ => None,
    }
}

/// A batch is refused now and then because of one record, which the daemon finds.
fn is_lasting(device: &DeviceFacts<'_>) -> bool {
    let since = device.planner.outage_since.unwrap_or(device.now);
    device.now.saturating_sub(since) >= RESPONSE_WAIT_MIN_MS
}

/// The token or the address is wrong.
pub(super) fn describe_stop(device: &DeviceFacts<'_>, reason: SyncReason) -> Obstacle {
    let local = stop_error(device).filter(|_| device.planner.is_local_error);
    match (reason, local) {
        (SyncReason::AuthRequired, Some(error)) => {
            describe_local_error("The token cannot be used", reason, error)
        }
        (SyncReason::AuthRequired, None) => describe_refused_credential(device),
        _ => describe_wrong_configuration(device, local),
    }
}

/// The refusal that began the stop, unless another failure came since.
fn stop_error<'a>(device: &DeviceFacts<'a>) -> Option<&'a LastError> {
    let is_stop = |outcome| matches!(outcome, BatchOutcome::Unauthorized | BatchOutcome::Misconfigured);
    device.planner.last_failure.filter(|error| outcome_of(error).is_some_and(is_stop))
}

/// The daemon's own message names the file, what is wrong with it, and often what to do.
fn describe_local_error(headline: &str, reason: SyncReason, error: &LastError) -> Obstacle {
    let (detail, remedy) = match error.message.split_once("To fix it: ") {
        Some((detail, remedy)) => (detail, remedy.to_owned()),
        None => (error.message.as_str(), correct_named_key(&error.message)),
    };
    let detail = detail.split(". Nothing is sent meanwhile").next().unwrap_or_default().trim();
    let end = if detail.is_empty() || detail.ends_with('.') { "" } else { "." };
    Obstacle::new(reason, headline, format!("{detail}{end}"), remedy)
}

/// `server.ca_file: cannot read …`
fn correct_named_key(message: &str) -> String {
    match message.split_once(':').filter(|(key, _)| key.starts_with("server.") && !key.contains(' ')) {
        Some((key, _)) => format!("correct {key} or that file; fieldsync doctor says more"),
        None => "correct the configuration: fieldsync doctor says what is wrong".to_owned(),
    }
}

/// The server accepts no batch of this device.
fn describe_refused_credential(device: &DeviceFacts<'_>) -> Obstacle {
    let status = describe_status(stop_error(device));
    let url = device.server.map_or("URL", |server| server.url);
    let renew = |what: &str| format!("renew the {what}, then: fieldsync sync");
    let (headline, remedy) = match device.credential {
        CredentialFacts { has_token: false, has_certificate: false } => (
            "The server wants a token, and none is set",
            format!(
                "sudo fieldsync setup --url {url} --token-file FILE; the administrator of the server has the token"
            ),
        ),
        CredentialFacts { has_token: true, has_certificate: false } => {
            ("The server does not accept the token", renew("token in server.token_file"))
        }
        CredentialFacts { has_token: false, has_certificate: true } => (
            "The server does not accept the certificate of this device",
            renew("certificate in server.client_cert_file"),
        ),
        CredentialFacts { has_token: true, has_certificate: true } => (
            "The server does not accept the token or the certificate",
            renew("token in server.token_file or the certificate in server.client_cert_file"),
        ),
    };
    Obstacle::new(SyncReason::AuthRequired, headline, status, remedy)
}

fn describe_wrong_configuration(device: &DeviceFacts<'_>, local: Option<&LastError>) -> Obstacle {
    let Some(server) = device.server else {
        // Later files override the one that people usually edit.
        let remedy = match locate_keys("set server.url", device.sources) {
            place if place.ends_with(')') => "set server.url".to_owned(),
            _ => format!(
                "sudo fieldsync setup --url https://… (or set server.url in {})",
                device.config_path.display()
            ),
        };
        return Obstacle::new(SyncReason::NoServer, "No server is set", "", remedy);
    };
    if let Some(error) = local {
        return describe_local_error("The configuration cannot be used", SyncReason::Misconfigured, error);
    }
    let status = stop_error(device).map_or(String::new(), status_note);
    Obstacle::new(
        SyncReason::Misconfigured,
        "Nothing takes records at the server's address",
        format!("{} responds, but not to batches{status}.", server.url),
        "correct server.url and server.path; the administrator of the server knows them",
    )
}

/// Every batch gets a response such as 400 or 422.
fn describe_refusal(error: &LastError) -> Obstacle {
    Obstacle::new(
        SyncReason::Refused,
        "The server refuses the records",
        describe_status(Some(error)),
        "tell the administrator of the server; check server.url and server.path",
    )
}

fn describe_other_site(error: &LastError) -> Obstacle {
    Obstacle::new(
        SyncReason::LoginPage,
        "Another site responds in place of the server",
        describe_status(Some(error)),
        "log in to the network with a browser; if there is nothing to log in to, correct server.url",
    )
}

/// Why the last send failed, if that passes by itself: the reason, sentences, and the remedy.
pub(super) fn describe_failure(device: &DeviceFacts<'_>) -> (SyncReason, String, String) {
    let Some(error) = device.planner.last_failure else {
        return (SyncReason::Retry, String::new(), BY_ITSELF.to_owned());
    };
    let status = status_note(error);
    let limit = device.planner.time_limit_ms.div_ceil(1000);
    let (reason, sentence, remedy) = match outcome_of(error) {
        Some(BatchOutcome::Throttled) => {
            (SyncReason::ServerBusy, format!("The server is busy{status}."), ADMINISTRATOR)
        }
        Some(BatchOutcome::Processing) => {
            (SyncReason::ServerBusy, "The server still works on the last batch.".into(), BY_ITSELF)
        }
        Some(BatchOutcome::Timeout) if error.http_status.is_some() => {
            (SyncReason::NoResponse, format!("The server did not respond in time{status}."), ADMINISTRATOR)
        }
        Some(BatchOutcome::Timeout) => {
            let sentence = format!("The server did not respond in time (limit {limit} s).");
            (SyncReason::NoResponse, sentence, ADMINISTRATOR)
        }
        Some(BatchOutcome::ServerError) => {
            (SyncReason::ServerFailed, format!("The server failed{status}."), ADMINISTRATOR)
        }
        Some(BatchOutcome::LinkTooSlow) => {
            (SyncReason::ConnectionLost, "The network is too slow for the batch.".into(), BY_ITSELF)
        }
        Some(BatchOutcome::ConnectionLost) if device.link.failure.is_none() => {
            (SyncReason::ConnectionLost, "The connection was lost before the response.".into(), BY_ITSELF)
        }
        Some(BatchOutcome::ConnectionLost | BatchOutcome::Unreachable) => {
            let fault = find_link_fault(device);
            return (fault.reason, fault.text(), fault.remedy.unwrap_or_default());
        }
        Some(
            BatchOutcome::Refused
            | BatchOutcome::TooLarge
            | BatchOutcome::EncodingRefused
            | BatchOutcome::BatchIdReused
            | BatchOutcome::Unauthorized
            | BatchOutcome::Misconfigured
            | BatchOutcome::Interfered,
        ) => (SyncReason::Retry, format!("The server refused the last batch{status}."), BY_ITSELF),
        // The batch was answered: some of its records wait because the server asked for it.
        None if error.class == "retry" => {
            let code = error.code.as_deref().filter(|code| is_plain_code(code));
            let code = code.map_or(String::new(), |code| format!(" ({code})"));
            let sentence = format!("The server asks to send some records again later{code}.");
            (SyncReason::Retry, sentence, BY_ITSELF)
        }
        Some(BatchOutcome::Answered) | None => {
            (SyncReason::Retry, format!("The last attempt failed{status}."), BY_ITSELF)
        }
    };
    (reason, sentence, remedy.to_owned())
}

fn outcome_of(error: &LastError) -> Option<BatchOutcome> {
    serde_json::from_value(error.class.clone().into()).ok()
}

/// The server chooses the code: only one that looks like a code is shown.
fn is_plain_code(code: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    (1..=40).contains(&code.len()) && code.chars().all(is_plain)
}

/// ` (HTTP 503)`
fn status_note(error: &LastError) -> String {
    let status = error.http_status.filter(|status| *status >= 300);
    status.map_or(String::new(), |status| format!(" (HTTP {status})"))
}

/// `It responds with HTTP 401.`
fn describe_status(error: Option<&LastError>) -> String {
    let status = error.and_then(|error| error.http_status);
    status.map_or(String::new(), |status| format!("It responds with HTTP {status}."))
}
