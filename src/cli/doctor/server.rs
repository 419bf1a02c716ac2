//! Whether the server responds as the protocol says: judges the response to the probe.

use super::finding::{CheckResult, Finding};
use super::probe::{PROBE_TIMEOUT, ProbeResult, TokenUse};
use super::records::failed_last_send;
use crate::api::Status;
use crate::cli::format::relative;
use crate::cli::table::error_text;
use crate::clock::wall_ms;
use crate::config::{self, OutcomeLookup};
use crate::model::Phase;
use crate::policy::outcome_reply::{OutcomeReply, classify_outcome_reply};
use crate::protocol::exchange::{RequestFailure, RequestResult, Response, ResponseBody};
use crate::transport::http::TransportError;
use crate::transport::tls::TlsProblem;

pub(super) fn judge_server(
    server: &config::Server,
    probe: &ProbeResult,
    status: Option<&Status>,
) -> Vec<Finding> {
    let url = format!("{}{}", server.url.trim_end_matches('/'), server.path);
    let finding = match probe {
        ProbeResult::NoServer => {
            Finding::unchecked("no server is configured", "sudo fieldsync setup --url https://…")
        }
        ProbeResult::FileUnreadable => Finding::unchecked(
            "the server cannot be asked: you may not read a file that the request needs",
            "sudo fieldsync doctor",
        ),
        ProbeResult::Unusable(TransportError::Url(error)) => {
            Finding::problem(format!("server.url cannot be used: {error}"), "correct server.url")
        }
        ProbeResult::Unusable(TransportError::Tls(_)) => Finding::unchecked(
            "the server cannot be asked without the certificates",
            "see the findings about tokens and certificates",
        ),
        ProbeResult::Unusable(TransportError::Proxy(_)) => Finding::unchecked(
            "the server cannot be asked without the proxy",
            "see the findings about connectivity",
        ),
        ProbeResult::TimedOut => Finding::problem(
            format!("{url} did not respond within {PROBE_TIMEOUT:?}"),
            "try another network; if that does not help, tell the administrator of the server",
        ),
        ProbeResult::Done { exchange, batch, token_use } => match &exchange.result {
            RequestResult::Failure(RequestFailure { message, .. }) => judge_failure(&url, message),
            RequestResult::Response(response) => {
                let reply = classify_outcome_reply(*batch, &exchange.result);
                let rejects_batches = status.is_some_and(|status| status.sync.phase == Phase::Misconfigured);
                // A daemon before 0.3 forgets its last success when it restarts, and any daemon synced records after a while.
                let has_synced = status
                    .is_some_and(|status| status.sync.last_success_at.is_some() || status.records.synced > 0);
                let history = ServerHistory {
                    rejects_batches,
                    has_synced: has_synced && !rejects_batches,
                    looks_up_outcomes: server.outcome_lookup == OutcomeLookup::Auto,
                };
                judge_response(&url, &reply, response, *token_use, history)
            }
        },
    };
    vec![weigh_last_send(finding, &url, status, wall_ms())]
}

/// The probe sends no records: a server may respond to it, and something on the way refuse each batch.
fn weigh_last_send(finding: Finding, url: &str, status: Option<&Status>, now: u64) -> Finding {
    // A batch that is denied while others get through is a finding about the records.
    let status = status.filter(|status| status.sync.denied.is_empty());
    let error = status.and_then(failed_last_send).filter(|_| finding.result == CheckResult::Ok);
    let Some(error) = error else { return finding };
    let text = format!(
        "{url} responds to a request without records, but the daemon's last send failed {}: {}",
        relative(error.at, now),
        error_text(error)
    );
    match error.http_status {
        Some(401 | 403) => Finding::problem(
            text,
            "ask the administrator of the server whether the token may send records, and whether a firewall refuses them",
        ),
        Some(404 | 405 | 410 | 415 | 501) => Finding::problem(
            text,
            "correct server.url and server.path: the administrator of the server knows them",
        ),
        Some(400..=407 | 409..=428 | 430..=499) => {
            Finding::problem(text, "tell the administrator of the server; check server.url and server.path")
        }
        Some(_) => Finding::warning(
            text,
            "nothing on this device if it passes; else tell the administrator of the server",
        ),
        None => Finding::warning(
            text,
            "try another network if it does not pass: something on the way may end requests with records",
        ),
    }
}

/// What is known of the server without the probe.
#[derive(Clone, Copy)]
struct ServerHistory {
    /// The daemon stopped sending because its batches get responses such as 404.
    rejects_batches: bool,
    /// It has confirmed records before, and does not reject batches now.
    has_synced: bool,
    /// The daemon would ask it for outcomes, too.
    looks_up_outcomes: bool,
}

fn judge_response(
    url: &str,
    reply: &OutcomeReply,
    response: &Response,
    token_use: TokenUse,
    history: ServerHistory,
) -> Finding {
    let (http, is_json) =
        (response.status, matches!(response.body, ResponseBody::Error(_) | ResponseBody::OtherJson));
    // Another code than UNKNOWN_BATCH: a server that speaks the protocol has nothing at this path.
    let is_protocol_404 = http == 404 && matches!(response.body, ResponseBody::Error(_));
    let message = match &response.body {
        ResponseBody::Error(detail) if !detail.message.is_empty() => format!(" and says: {}", detail.message),
        _ => String::new(),
    };
    match (reply, http) {
        (OutcomeReply::UnknownBatch, _) => Finding::ok(match token_use {
            TokenUse::Sent => format!("{url} responds as it should and accepts the token"),
            TokenUse::NotConfigured => format!("{url} responds as it should"),
            TokenUse::Withheld => format!("{url} responds as it should, even without the token"),
        }),
        (_, 401 | 403) => judge_denial(url, http, &message, token_use),
        (_, 429 | 503) => Finding::warning(
            format!("{url} asks to come back later (HTTP {http}){message}: records wait until then"),
            "nothing; if it stays so, tell the administrator of the server",
        ),
        (OutcomeReply::Completed(_) | OutcomeReply::Processing { .. } | OutcomeReply::Unreachable, _) => {
            Finding::problem(
                format!(
                    "the response from {url} does not come from the server (HTTP {http}): the login page of a Wi-Fi, or another site"
                ),
                "open any page in a browser and log in to the network; if there is nothing to log in to, correct server.url and server.path",
            )
        }
        _ if matches!(reply, OutcomeReply::Failed) || (matches!(http, 500..=599) && http != 501) => {
            Finding::warning(
                format!(
                    "the server, or a gateway in front of it, fails (HTTP {http} from {url}){message}: records wait until it recovers"
                ),
                "nothing on this device; tell the administrator of the server",
            )
        }
        _ if history.has_synced && !history.looks_up_outcomes => Finding::ok(format!(
            "{url} accepts records; outcomes are not queried (server.outcome_lookup is off)"
        )),
        (_, 404 | 405 | 501)
            if !history.looks_up_outcomes && !matches!(response.body, ResponseBody::Error(_)) =>
        {
            Finding::unchecked(
                format!(
                    "a server responds at {url} (HTTP {http}); whether it accepts batches shows only when one is sent, \
                     because outcomes are not queried (server.outcome_lookup is off)"
                ),
                "enqueue a record, then: fieldsync sync --wait",
            )
        }
        _ if history.has_synced => Finding::warning(
            format!(
                "{url} accepts records, but does not support outcome queries (HTTP {http}): a batch with an unclear outcome is sent again in parts"
            ),
            "ask the administrator of the server to add outcome queries; server.outcome_lookup = \"off\" saves requests that fail",
        ),
        // A server without outcome queries is valid, and responds like a website that knows nothing of batches.
        (_, 404 | 405 | 501) if !history.rejects_batches && !is_protocol_404 => Finding::warning(
            format!(
                "a web server responds at {url}, but not to outcome queries (HTTP {http}): either it accepts batches \
                 without supporting these queries, or it is not a batch endpoint of fieldsync"
            ),
            "enqueue a record, then: fieldsync sync --wait; if that fails, correct server.url and server.path: the \
             administrator of the server knows them",
        ),
        _ if is_json => Finding::problem(
            format!("{url} is not a batch endpoint with outcome queries (HTTP {http}){message}"),
            "correct server.url and server.path: the administrator of the server knows them",
        ),
        _ => Finding::problem(
            format!(
                "a web server responds at {url} (HTTP {http}), but it is not a batch endpoint of fieldsync"
            ),
            "correct server.url and server.path: the administrator of the server knows them",
        ),
    }
}

fn judge_denial(url: &str, http: u16, message: &str, token_use: TokenUse) -> Finding {
    match token_use {
        TokenUse::Sent => Finding::problem(
            format!("{url} does not accept the token (HTTP {http}){message}"),
            "ask the administrator of the server for a new token, and replace the old one with it: the daemon uses it at once",
        ),
        TokenUse::NotConfigured => Finding::problem(
            format!("{url} requires a token or a certificate, and none is configured (HTTP {http}){message}"),
            "put the token into a file that only the daemon's user may read, and name it in server.token_file",
        ),
        TokenUse::Withheld => Finding::unchecked(
            format!("{url} responds and requires the token, which was not sent (HTTP {http})"),
            "see the findings about tokens and certificates; if you may not read it: sudo fieldsync doctor",
        ),
    }
}

struct KnownFailure {
    /// Parts of the transport's or the system's message, one of which identifies the failure.
    patterns: &'static [&'static str],
    text: &'static str,
    remedy: &'static str,
}

/// Messages contain addresses and host names, which may contain a pattern, too. So the most specific patterns come
/// first.
const KNOWN_FAILURES: [KnownFailure; 8] = [
    KnownFailure {
        patterns: &["cannot connect to the proxy"],
        text: "the proxy does not respond",
        remedy: "check server.proxy and the variables HTTPS_PROXY and NO_PROXY of the service; if they are right, the proxy is down",
    },
    KnownFailure {
        patterns: &["onnection refused"],
        text: "no program listens at the address and port of the server",
        remedy: "check the port of server.url; if it is right, the server is down",
    },
    KnownFailure {
        patterns: &["tls handshake eof"],
        text: "the server does not use TLS at this port",
        remedy: "check scheme and port of server.url: http:// for a server without TLS",
    },
    KnownFailure {
        patterns: &["through: HTTP 407"],
        text: "the proxy requires a password",
        remedy: "put user:password into a file with mode 0600, and name it in server.proxy_credential_file",
    },
    KnownFailure {
        patterns: &["the proxy"],
        text: "the proxy does not connect to the server",
        remedy: "check server.proxy and the variables HTTPS_PROXY and NO_PROXY of the service; the proxy must allow CONNECT",
    },
    KnownFailure {
        patterns: &["dns error", "failed to lookup"],
        text: "the host name of the server cannot be resolved",
        remedy: "check server.url for a mistake, and the name servers: cat /etc/resolv.conf",
    },
    KnownFailure {
        patterns: &["unreachable", "No route"],
        text: "there is no route to the server",
        remedy: "join a network that reaches it; ip route shows the routes",
    },
    KnownFailure {
        patterns: &["no connection within", "no response within", "timed out"],
        text: "the server does not respond in time",
        remedy: "try another network; a firewall may drop the packets",
    },
];

fn judge_failure(url: &str, message: &str) -> Finding {
    if let Some(problem) = TlsProblem::find_in_message(message) {
        return Finding::problem(format!("{url}: {}", problem.without_remedy(message)), problem.remedy);
    }
    let known = KNOWN_FAILURES
        .iter()
        .find(|failure| failure.patterns.iter().any(|pattern| message.contains(pattern)));
    match known {
        Some(KnownFailure { text, remedy, .. }) => {
            Finding::problem(format!("{text} ({url}: {message})"), *remedy)
        }
        None => Finding::problem(
            format!("{url} did not respond: {message}"),
            "try another network; if that does not help, tell the administrator of the server",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::CheckResult;
    use super::*;
    use crate::model::BatchId;
    use crate::protocol::wire::ErrorDetail;

    const NEW: ServerHistory =
        ServerHistory { rejects_batches: false, has_synced: false, looks_up_outcomes: true };
    const KNOWN: ServerHistory =
        ServerHistory { rejects_batches: false, has_synced: true, looks_up_outcomes: true };
    const NEW_WITHOUT: ServerHistory =
        ServerHistory { rejects_batches: false, has_synced: false, looks_up_outcomes: false };
    const REJECTING: ServerHistory = ServerHistory { rejects_batches: true, ..NEW };
    const KNOWN_WITHOUT: ServerHistory =
        ServerHistory { rejects_batches: false, has_synced: true, looks_up_outcomes: false };

    fn judge(
        status: u16,
        body: ResponseBody,
        token_use: TokenUse,
        history: ServerHistory,
    ) -> (CheckResult, String) {
        let response = Response { status, retry_after: None, body };
        let reply = classify_outcome_reply(BatchId::new(), &RequestResult::Response(response.clone()));
        let finding = judge_response("http://crm", &reply, &response, token_use, history);
        (finding.result, format!("{} {}", finding.text, finding.remedy.unwrap_or_default()))
    }

    #[test]
    fn every_response_is_judged() {
        use CheckResult::{CouldNotCheck, Ok, Problem, Warning};
        use TokenUse::{NotConfigured, Sent, Withheld};
        let error = |code: &str| {
            ResponseBody::Error(ErrorDetail { code: code.into(), message: "so it is".into(), position: None })
        };
        for (status, body, token_use, history, result, words) in [
            (404, error("UNKNOWN_BATCH"), Sent, NEW, Ok, "accepts the token"),
            (404, error("UNKNOWN_BATCH"), NotConfigured, NEW, Ok, "responds as it should"),
            (401, error("NO"), Sent, KNOWN, Problem, "says: so it is"),
            (403, ResponseBody::Empty, NotConfigured, NEW, Problem, "server.token_file"),
            (401, ResponseBody::Empty, Withheld, NEW, CouldNotCheck, "sudo"),
            (404, ResponseBody::NotJson, Sent, NEW, Warning, "server.path"),
            (404, ResponseBody::Empty, Sent, NEW, Warning, "either it accepts batches"),
            (405, ResponseBody::Empty, Sent, NEW, Warning, "or it is not a batch endpoint"),
            (501, error("NO_GET"), Sent, NEW, Warning, "either it accepts batches"),
            (404, ResponseBody::NotJson, Sent, REJECTING, Problem, "it is not a batch endpoint of fieldsync"),
            (405, error("NO_GET"), Sent, REJECTING, Problem, "server.path"),
            (404, error("NOT_FOUND"), Sent, NEW, Problem, "server.path"),
            (405, ResponseBody::Empty, Sent, KNOWN, Warning, "does not support outcome queries"),
            (501, ResponseBody::Empty, Sent, KNOWN, Warning, "does not support outcome queries"),
            (200, ResponseBody::NotJson, Sent, KNOWN, Problem, "log in to the network"),
            (302, ResponseBody::Empty, Sent, NEW, Problem, "log in to the network"),
            (511, ResponseBody::NotJson, Sent, NEW, Problem, "log in to the network"),
            (503, ResponseBody::Empty, Sent, NEW, Warning, "come back later"),
            (429, ResponseBody::Empty, Sent, NEW, Warning, "come back later"),
            (504, ResponseBody::NotJson, Sent, NEW, Warning, "fails (HTTP 504"),
            (500, ResponseBody::Empty, Sent, NEW, Warning, "fails (HTTP 500"),
            (599, ResponseBody::Empty, Sent, KNOWN, Warning, "fails (HTTP 599"),
            (400, ResponseBody::OtherJson, Sent, NEW, Problem, "not a batch endpoint"),
            (404, ResponseBody::NotJson, Sent, NEW_WITHOUT, CouldNotCheck, "shows only when one is sent"),
            (405, ResponseBody::Empty, Sent, NEW_WITHOUT, CouldNotCheck, "shows only when one is sent"),
            (404, error("NOT_FOUND"), Sent, NEW_WITHOUT, Problem, "server.path"),
            (405, ResponseBody::Empty, Sent, KNOWN_WITHOUT, Ok, "accepts records"),
        ] {
            let (found, text) = judge(status, body, token_use, history);
            assert_eq!(found, result, "{status}: {text}");
            assert!(text.contains(words), "{status}: {text}");
        }
    }

    #[test]
    fn an_unknown_failure_is_shown_unchanged() {
        let refused = "cannot connect to 127.0.0.1:40740: Connection refused (os error 111)";
        assert!(judge_failure("http://crm", refused).text.starts_with("no program listens"));
        let finding = judge_failure("http://crm", "something new");
        assert!(finding.text.contains("something new"), "{finding:?}");
    }
}
