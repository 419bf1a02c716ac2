//! Proves to an open page that it still talks to the daemon that served it. In turn, the page proves that it knows the
//! access code without sending it.
//!
//! While the daemon is not running, any user of this device may listen on its port, and an open page would talk to that
//! process. So each page has a key, derived from a secret that the store keeps across restarts. Before a page sends
//! anything else, it sends a random challenge, and the daemon signs that with the key of the page.
//!
//! Once the daemon is back, a process that still holds a connection of the page can relay the challenge, and read what the
//! page sends next. So the page never sends the code, but signs the code and the request with its key. Without the key, the
//! code cannot be guessed from the signature, however short it is. A signature is valid for one request, until its ticket
//! expires.

use std::time::Duration;

use ring::error::Unspecified;
use ring::hmac;
use ring::rand::{self, SystemRandom};
use serde::Serialize;
use uuid::Uuid;

use crate::clock::Clock;

/// The name of the secret in the store.
pub(crate) const SECRET_NOTE: &str = "page_secret";
const SECRET_BYTES: usize = 32;
/// The id of a page and a challenge have this many hexadecimal digits.
const ID_DIGITS: usize = 32;
/// How long after the proof the ticket that came with it is valid.
const TICKET_LIFETIME: Duration = Duration::from_mins(1);
/// Precedes the signature of a request.
const SIGNATURE_SCHEME: &str = "Page ";

pub(super) fn create_secret() -> Result<Vec<u8>, Unspecified> {
    let secret: [u8; SECRET_BYTES] = rand::generate(&SystemRandom::new())?.expose();
    Ok(secret.to_vec())
}

/// The keys by which pages recognise their daemon.
pub(super) struct PageIdentity {
    secret: hmac::Key,
    /// A key of this run: tickets do not outlive it.
    ticket_key: hmac::Key,
    clock: Clock,
}

/// Part of the page as it is served.
pub(super) struct PageKey {
    pub(super) id: String,
    pub(super) key: String,
}

/// The response to `GET /v1/proof`.
#[derive(Serialize)]
pub(super) struct Proof {
    proof: String,
    ticket: String,
}

/// `Authorization: Page ID.TICKET.DIGEST.SIGNATURE` of a request, with the digest of its body.
pub(super) struct RequestSignature<'a> {
    page: &'a str,
    ticket: &'a str,
    pub(super) digest: &'a str,
    tag: Vec<u8>,
}

impl<'a> RequestSignature<'a> {
    /// None if the scheme is another one or the signature is malformed.
    pub(super) fn parse(authorization: &'a str) -> Option<Self> {
        let mut parts = authorization.strip_prefix(SIGNATURE_SCHEME)?.split('.');
        let [page, ticket, digest, signature] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        if !is_page_id(page) || parts.next().is_some() {
            return None;
        }
        Some(Self { page, ticket, digest, tag: from_hex(signature)? })
    }
}

impl PageIdentity {
    pub(super) fn new(secret: &[u8], clock: Clock) -> Result<Self, Unspecified> {
        let ticket_key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())?;
        Ok(Self { secret: hmac::Key::new(hmac::HMAC_SHA256, secret), ticket_key, clock })
    }

    /// Creates the key of a page that is served at this host.
    pub(super) fn issue_page_key(&self, host: &str) -> PageKey {
        let id = Uuid::new_v4().simple().to_string();
        let key = to_hex(self.derive_page_key(&id, host).as_ref());
        PageKey { id, key }
    }

    /// None if the page or the challenge is malformed.
    pub(super) fn prove(&self, page: &str, challenge: &str, host: &str) -> Option<Proof> {
        if !is_page_id(page) || !is_page_id(challenge) {
            return None;
        }
        let issued_ms = self.clock.now().as_millis().to_string();
        let ticket = format!("{issued_ms}-{}", to_hex(sign(&self.ticket_key, &[page, &issued_ms]).as_ref()));
        let proof = sign(&self.page_key(page, host), &["proof", challenge, &ticket]);
        Some(Proof { proof: to_hex(proof.as_ref()), ticket })
    }

    /// Whether the ticket is of this run and has not expired.
    pub(super) fn has_valid_ticket(&self, signature: &RequestSignature<'_>) -> bool {
        let read = || {
            let (issued_ms, tag) = signature.ticket.split_once('-')?;
            let message = join_parts(&[signature.page, issued_ms]);
            hmac::verify(&self.ticket_key, message.as_bytes(), &from_hex(tag)?).ok()?;
            let issued_at = Duration::from_millis(issued_ms.parse().ok()?);
            Some(self.clock.now() <= issued_at + TICKET_LIFETIME)
        };
        read() == Some(true)
    }

    /// Whether the page that signed this request knows the code.
    pub(super) fn is_signed_with(
        &self,
        code: &str,
        signature: &RequestSignature<'_>,
        host: &str,
        (method, path): (&str, &str),
    ) -> bool {
        let message = join_parts(&["request", signature.ticket, method, path, signature.digest, code]);
        let key = self.page_key(signature.page, host);
        hmac::verify(&key, message.as_bytes(), &signature.tag).is_ok()
    }

    fn page_key(&self, page: &str, host: &str) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.derive_page_key(page, host).as_ref())
    }

    fn derive_page_key(&self, page: &str, host: &str) -> hmac::Tag {
        sign(&self.secret, &["page", page, host])
    }
}

fn sign(key: &hmac::Key, parts: &[&str]) -> hmac::Tag {
    hmac::sign(key, join_parts(parts).as_bytes())
}

/// Unambiguous, because only the last part can contain the separator.
fn join_parts(parts: &[&str]) -> String {
    parts.join("\n")
}

fn is_page_id(text: &str) -> bool {
    text.len() == ID_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xF]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok())).collect();
    let digits = digits?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "00112233445566778899aabbccddeeff";
    const CHALLENGE: &str = "ffeeddccbbaa99887766554433221100";
    const HOST: &str = "127.0.0.1:7077";
    const RETRY: (&str, &str) = ("POST", "/v1/quarantine/retry");

    fn identity(secret: &[u8]) -> PageIdentity {
        PageIdentity::new(secret, Clock::start()).unwrap()
    }

    fn page_key_of(page: &PageKey) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &from_hex(&page.key).unwrap())
    }

    #[test]
    fn a_page_recognises_its_daemon_after_a_restart_and_no_other_process() {
        let page = identity(b"secret").issue_page_key(HOST);
        let is_proven = |prover: &PageIdentity, host: &str| {
            let proof = prover.prove(&page.id, CHALLENGE, host).unwrap();
            let message = join_parts(&["proof", CHALLENGE, &proof.ticket]);
            hmac::verify(&page_key_of(&page), message.as_bytes(), &from_hex(&proof.proof).unwrap()).is_ok()
        };
        assert!(is_proven(&identity(b"secret"), HOST));
        assert!(!is_proven(&identity(b"another"), HOST));
        assert!(!is_proven(&identity(b"secret"), "localhost:7077"), "a key is for one address");
    }

    #[test]
    fn malformed_challenges_and_signatures_are_rejected() {
        let identity = identity(b"secret");
        for (page, challenge) in
            [("", CHALLENGE), (PAGE, ""), (PAGE, &CHALLENGE[1..]), (PAGE, &PAGE.replace('0', "\n"))]
        {
            assert!(identity.prove(page, challenge, HOST).is_none(), "{page:?} {challenge:?}");
        }
        for malformed in ["", "Bearer x", "Page ", "Page a.b.c.d", "Page a.b.c"] {
            assert!(RequestSignature::parse(malformed).is_none(), "{malformed}");
        }
    }

    #[test]
    fn a_signature_is_valid_only_for_its_request_code_address_and_run() {
        let identity = identity(b"secret");
        let page = identity.issue_page_key(HOST);
        let ticket = identity.prove(&page.id, CHALLENGE, HOST).unwrap().ticket;
        let tag = sign(&page_key_of(&page), &["request", &ticket, RETRY.0, RETRY.1, "digest", "code"]);
        let header = |digest: &str| format!("Page {}.{ticket}.{digest}.{}", page.id, to_hex(tag.as_ref()));
        let good = header("digest");
        let signature = RequestSignature::parse(&good).unwrap();
        assert!(identity.has_valid_ticket(&signature));
        assert!(identity.is_signed_with("code", &signature, HOST, RETRY));
        assert!(!identity.is_signed_with("another", &signature, HOST, RETRY));
        assert!(!identity.is_signed_with("code", &signature, "[::1]:7077", RETRY));
        assert!(!identity.is_signed_with("code", &signature, HOST, ("POST", "/v1/other")));
        let altered = header("another");
        let altered = RequestSignature::parse(&altered).unwrap();
        assert!(!identity.is_signed_with("code", &altered, HOST, RETRY));
        let restarted = PageIdentity::new(b"secret", Clock::start()).unwrap();
        assert!(!restarted.has_valid_ticket(&signature));
    }
}
