//! Whether the server answers as the protocol says: one look-up of a batch that never was, by the daemon's
//! own transport. The answer to it proves address, path, credential and protocol at once, and changes nothing.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::LocalSet;
use tokio::time::timeout;
use uuid::Uuid;

use super::credential::{Gathered, Shown};
use super::finding::Finding;
use crate::api::Status;
use crate::config::{self, OutcomeLookup};
use crate::model::{BatchId, DeviceId};
use crate::policy::outcome_reply::{OutcomeReply, classify_outcome_reply};
use crate::protocol::exchange::{RequestFailure, RequestResult, Response, ResponseBody};
use crate::transport::http::{HttpTransport, TransportError};
use crate::transport::tls::TlsProblem;
use crate::transport::{ConnectionInvalidation, Exchange, Transport};

/// For all of it, whatever the limits of its parts are set to.
const SERVER_WITHIN: Duration = Duration::from_secs(30);

/// What came of it.
pub(super) enum Tried {
    /// There is no server to ask.
    NoServer,
    /// Nobody was asked, for this reason.
    Unusable(TransportError),
    /// As before, and the reason is that this user may not read a file.
    Closed,
    /// It took too long.
    TooLate,
    /// Somebody was asked.
    Asked { exchange: Box<Exchange>, batch: BatchId, with_token: WithToken },
}

/// Whether a token was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WithToken {
    Yes,
    NoneIsConfigured,
    Withheld,
}

impl Tried {
    /// What time the server has, in milliseconds since 1970.
    pub(super) fn date(&self) -> Option<Duration> {
        match self {
            Self::Asked { exchange, .. } => exchange.date,
            _ => None,
        }
    }
}

pub(super) async fn probe(credentials: &Gathered, status: Option<&Status>) -> Tried {
    let server = &credentials.server;
    if server.url.is_empty() {
        return Tried::NoServer;
    }
    let (token, with_token) = match &credentials.token {
        Shown::As(Some(token)) => (Some(token.clone()), WithToken::Yes),
        Shown::As(None) => (None, WithToken::NoneIsConfigured),
        Shown::Withheld => (None, WithToken::Withheld),
    };
    let device = status.map_or_else(|| DeviceId(Uuid::new_v4()), |status| status.device_id);
    let batch = BatchId::new();
    // The transport lives on one thread.
    let thread = LocalSet::new();
    let asked = thread.run_until(async {
        let transport =
            HttpTransport::new(server, device, token, Rc::new(ConnectionInvalidation::default()))?;
        Ok(timeout(SERVER_WITHIN, transport.query_outcome(batch)).await)
    });
    match asked.await {
        Ok(Ok(exchange)) => Tried::Asked { exchange: Box::new(exchange), batch, with_token },
        Ok(Err(_)) => Tried::TooLate,
        Err(_) if credentials.is_closed_to_me() => Tried::Closed,
        Err(error) => Tried::Unusable(error),
    }
}

pub(super) fn judge(server: &config::Server, tried: &Tried, status: Option<&Status>) -> Vec<Finding> {
    let url = format!("{}{}", server.url.trim_end_matches('/'), server.path);
    let finding = match tried {
        Tried::NoServer => Finding::unchecked("no server is configured", "set server.url"),
        Tried::Closed => Finding::unchecked(
            "nobody can be asked: a file that it takes is closed to you",
            "sudo fieldsync doctor",
        ),
        Tried::Unusable(TransportError::Url(error)) => {
            Finding::problem(format!("server.url cannot be used: {error}"), "mend server.url")
        }
        Tried::Unusable(TransportError::Tls(_)) => Finding::unchecked(
            "nobody can be asked without the certificates",
            "see what is found of the credential",
        ),
        Tried::Unusable(TransportError::Proxy(_)) => Finding::unchecked(
            "nobody can be asked without the proxy",
            "see what is found of the connectivity",
        ),
        Tried::TooLate => Finding::problem(
            format!("{url} gave no answer within {SERVER_WITHIN:?}"),
            "try another network; if it stays, tell whoever runs the server",
        ),
        Tried::Asked { exchange, batch, with_token } => match &exchange.result {
            RequestResult::Failure(RequestFailure { message, .. }) => unanswered(&url, message),
            RequestResult::Response(answer) => {
                let found = classify_outcome_reply(*batch, &exchange.result);
                // The first is forgotten with every start of the daemon, the second after a while.
                let got_through = status
                    .is_some_and(|status| status.sync.last_success_at.is_some() || status.records.synced > 0);
                let past = Past { got_through, looks_up: server.outcome_lookup == OutcomeLookup::Auto };
                answered(&url, &found, answer, *with_token, past)
            }
        },
    };
    vec![finding]
}

/// What is known of the server without asking it.
#[derive(Clone, Copy)]
struct Past {
    /// It has confirmed records before.
    got_through: bool,
    /// The daemon would ask it for outcomes, too.
    looks_up: bool,
}

fn answered(
    url: &str,
    found: &OutcomeReply,
    answer: &Response,
    with_token: WithToken,
    past: Past,
) -> Finding {
    let (http, json) =
        (answer.status, matches!(answer.body, ResponseBody::Error(_) | ResponseBody::OtherJson));
    let says = match &answer.body {
        ResponseBody::Error(detail) if !detail.message.is_empty() => format!(" and says: {}", detail.message),
        _ => String::new(),
    };
    match (found, http) {
        (OutcomeReply::UnknownBatch, _) => Finding::ok(match with_token {
            WithToken::Yes => format!("{url} answers as it should, and takes the token"),
            WithToken::NoneIsConfigured => format!("{url} answers as it should"),
            WithToken::Withheld => format!("{url} answers as it should, even without the token"),
        }),
        (_, 401 | 403) => not_let_in(url, http, &says, with_token),
        (_, 429 | 503) => Finding::warning(
            format!("{url} asks to come back later (HTTP {http}){says}: records wait meanwhile"),
            "nothing; if it stays, tell whoever runs the server",
        ),
        (OutcomeReply::Completed(_) | OutcomeReply::Processing { .. } | OutcomeReply::Unreachable, _) => {
            Finding::problem(
                format!(
                    "somebody else answers in the place of {url} (HTTP {http}): a captive portal, or a page of another kind"
                ),
                "open any page in a browser and log in to the network; if there is nothing to log in to, mend server.url and server.path",
            )
        }
        _ if matches!(found, OutcomeReply::Failed) || (matches!(http, 500..=599) && http != 501) => {
            Finding::warning(
                format!(
                    "the server, or a gateway in front of it, is in trouble (HTTP {http} from {url}){says}: records wait meanwhile"
                ),
                "nothing on this device; tell whoever runs the server",
            )
        }
        _ if past.got_through && !past.looks_up => Finding::ok(format!(
            "{url} takes records; outcomes are not looked up, as server.outcome_lookup has it"
        )),
        (_, 404 | 405 | 501) if !past.looks_up && !matches!(answer.body, ResponseBody::Error(_)) => {
            Finding::unchecked(
                format!(
                    "a server answers at {url} (HTTP {http}); whether it takes batches shows only when one is sent, \
                 as it is not to be asked for outcomes (server.outcome_lookup)"
                ),
                "enqueue a record, then: fieldsync sync --wait",
            )
        }
        _ if past.got_through => Finding::warning(
            format!(
                "{url} takes records, but does not look outcomes up (HTTP {http}): what becomes of a batch in doubt is found out by sending it in parts"
            ),
            "server.outcome_lookup = \"off\" saves the question; better, have whoever runs the server add the look-up",
        ),
        _ if json => Finding::problem(
            format!("{url} is no batch endpoint with look-up (HTTP {http}){says}"),
            "mend server.url and server.path: whoever runs the server knows them",
        ),
        _ => Finding::problem(
            format!("there is a web server, but nothing of fieldsync's at {url} (HTTP {http})"),
            "mend server.url and server.path: whoever runs the server knows them",
        ),
    }
}

fn not_let_in(url: &str, http: u16, says: &str, with_token: WithToken) -> Finding {
    match with_token {
        WithToken::Yes => Finding::problem(
            format!("{url} does not accept the token (HTTP {http}){says}"),
            "ask whoever runs the server for a new token, and put it in the place of the old one: it is used at once",
        ),
        WithToken::NoneIsConfigured => Finding::problem(
            format!("{url} wants a credential, and none is configured (HTTP {http}){says}"),
            "put the token into a file that only the daemon's user may read, and name it in server.token_file",
        ),
        WithToken::Withheld => Finding::unchecked(
            format!("{url} answers, and wants the token, which was not used here (HTTP {http})"),
            "see what is found of the credential; where it is closed to you: sudo fieldsync doctor",
        ),
    }
}

/// What the transport says of a request that got no answer, and what people do about it. The words are
/// those of the transport and of the system; what none of them fits is told as it came.
const TROUBLES: [(&[&str], &str, &str); 8] = [
    // Addresses are in the words, and what somebody may find in a port: what cannot be mistaken comes first.
    (
        &["cannot connect to the proxy"],
        "the proxy does not answer",
        "check server.proxy and the variables HTTPS_PROXY and NO_PROXY of the service; if they are right, the proxy is down",
    ),
    (
        &["onnection refused"],
        "nobody listens at the address and port of the server",
        "check the port of server.url; if it is right, the server is down",
    ),
    (
        &["tls handshake eof"],
        "the other side does not use TLS",
        "check scheme and port of server.url: http:// where the server has no TLS",
    ),
    (
        &["through: HTTP 407"],
        "the proxy wants a credential",
        "put user:password into a file with mode 0600, and name it in server.proxy_credential_file",
    ),
    (
        &["the proxy"],
        "the proxy does not lead to the server",
        "check server.proxy and the variables HTTPS_PROXY and NO_PROXY of the service; the proxy must allow CONNECT",
    ),
    (
        &["dns error", "failed to lookup"],
        "the name of the server is not known",
        "check server.url for a mistake, and the name servers: cat /etc/resolv.conf",
    ),
    (
        &["unreachable", "No route"],
        "there is no route to the server",
        "join a network that leads there; ip route shows what there is",
    ),
    (
        &["no connection within", "no response within", "timed out"],
        "the server does not answer in time",
        "try another network; a firewall may drop what goes there",
    ),
];

fn unanswered(url: &str, message: &str) -> Finding {
    if let Some(problem) = TlsProblem::find_in_message(message) {
        return Finding::problem(format!("{url}: {}", problem.without_remedy(message)), problem.remedy);
    }
    let known = TROUBLES.iter().find(|(words, ..)| words.iter().any(|word| message.contains(word)));
    match known {
        Some((_, what, remedy)) => Finding::problem(format!("{what} ({url}: {message})"), *remedy),
        None => Finding::problem(
            format!("{url} gave no answer: {message}"),
            "try another network; if it stays, tell whoever runs the server",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Outcome;
    use super::*;
    use crate::protocol::wire::ErrorDetail;

    const NEW: Past = Past { got_through: false, looks_up: true };
    const KNOWN: Past = Past { got_through: true, looks_up: true };
    const NEW_WITHOUT: Past = Past { got_through: false, looks_up: false };
    const KNOWN_WITHOUT: Past = Past { got_through: true, looks_up: false };

    fn told(status: u16, body: ResponseBody, with_token: WithToken, past: Past) -> (Outcome, String) {
        let answer = Response { status, retry_after: None, body };
        let found = classify_outcome_reply(BatchId::new(), &RequestResult::Response(answer.clone()));
        let finding = answered("http://crm", &found, &answer, with_token, past);
        (finding.result, format!("{} {}", finding.text, finding.remedy.unwrap_or_default()))
    }

    #[test]
    fn every_answer_is_judged() {
        use Outcome::{CouldNotCheck, Ok, Problem, Warning};
        use WithToken::{NoneIsConfigured, Withheld, Yes};
        let error = |code: &str| {
            ResponseBody::Error(ErrorDetail { code: code.into(), message: "so it is".into(), position: None })
        };
        for (status, body, with_token, past, result, words) in [
            (404, error("UNKNOWN_BATCH"), Yes, NEW, Ok, "takes the token"),
            (404, error("UNKNOWN_BATCH"), NoneIsConfigured, NEW, Ok, "answers as it should"),
            (401, error("NO"), Yes, KNOWN, Problem, "says: so it is"),
            (403, ResponseBody::Empty, NoneIsConfigured, NEW, Problem, "server.token_file"),
            (401, ResponseBody::Empty, Withheld, NEW, CouldNotCheck, "sudo"),
            (404, ResponseBody::NotJson, Yes, NEW, Problem, "server.path"),
            (404, error("NOT_FOUND"), Yes, NEW, Problem, "server.path"),
            (405, ResponseBody::Empty, Yes, KNOWN, Warning, "does not look outcomes up"),
            (501, ResponseBody::Empty, Yes, KNOWN, Warning, "does not look outcomes up"),
            (200, ResponseBody::NotJson, Yes, KNOWN, Problem, "log in to the network"),
            (302, ResponseBody::Empty, Yes, NEW, Problem, "log in to the network"),
            (511, ResponseBody::NotJson, Yes, NEW, Problem, "log in to the network"),
            (503, ResponseBody::Empty, Yes, NEW, Warning, "come back later"),
            (429, ResponseBody::Empty, Yes, NEW, Warning, "come back later"),
            (504, ResponseBody::NotJson, Yes, NEW, Warning, "in trouble"),
            (500, ResponseBody::Empty, Yes, NEW, Warning, "in trouble"),
            (599, ResponseBody::Empty, Yes, KNOWN, Warning, "in trouble"),
            (400, ResponseBody::OtherJson, Yes, NEW, Problem, "no batch endpoint"),
            (404, ResponseBody::NotJson, Yes, NEW_WITHOUT, CouldNotCheck, "shows only when one is sent"),
            (405, ResponseBody::Empty, Yes, NEW_WITHOUT, CouldNotCheck, "shows only when one is sent"),
            (404, error("NOT_FOUND"), Yes, NEW_WITHOUT, Problem, "server.path"),
            (405, ResponseBody::Empty, Yes, KNOWN_WITHOUT, Ok, "takes records"),
        ] {
            let (found, text) = told(status, body, with_token, past);
            assert_eq!(found, result, "{status}: {text}");
            assert!(text.contains(words), "{status}: {text}");
        }
    }

    #[test]
    fn what_is_not_known_is_told_as_it_came() {
        let refused = "cannot connect to 127.0.0.1:40740: Connection refused (os error 111)";
        assert!(unanswered("http://crm", refused).text.starts_with("nobody listens"));
        let finding = unanswered("http://crm", "something new");
        assert!(finding.text.contains("something new"), "{finding:?}");
    }
}
