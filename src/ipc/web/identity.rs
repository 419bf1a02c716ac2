//! Proves to a page that is open that the process at its address is the daemon that served it, and lets the page prove
//! that it knows the code, without sending it.
//!
//! While no daemon runs, any user of this device may listen on its port, and an open page would talk to that process.
//! So each page comes with a key, derived from a secret that the store keeps over restarts. Before a page sends
//! anything else, it sends a random challenge, and the daemon signs it with the key of that page.
//!
//! A process that took the page's connection while the daemon was away can still pass the challenge on once the
//! daemon is back, and then reads what the page sends next. So that is never the code, but a signature over the code
//! and the request, by the key of the page: without the key nobody can guess the code from it, however short that
//! is, and it is of use for no other request, nor later than its ticket.

use std::time::Duration;

use ring::error::Unspecified;
use ring::hmac;
use ring::rand::{self, SystemRandom};
use serde::Serialize;
use uuid::Uuid;

use crate::clock::Clock;

/// Under which the secret is kept in the store.
pub(crate) const NOTE: &str = "page_secret";
const SECRET_BYTES: usize = 32;
/// Hexadecimal digits of the id of a page, and of a challenge.
const ID_DIGITS: usize = 32;
/// How long a request may be signed after the proof that its ticket came with.
const TICKET_LIFETIME: Duration = Duration::from_mins(1);
/// Before the parts of a request's signature.
const SCHEME: &str = "Page ";

/// A new secret, for the store.
pub(super) fn create_secret() -> Result<Vec<u8>, Unspecified> {
    let secret: [u8; SECRET_BYTES] = rand::generate(&SystemRandom::new())?.expose();
    Ok(secret.to_vec())
}

/// The daemon, as its pages know it again.
pub(super) struct Identity {
    secret: hmac::Key,
    /// Of this run alone: a ticket does not outlive it.
    tickets: hmac::Key,
    clock: Clock,
}

/// What a page is served with.
pub(super) struct PageKey {
    pub(super) id: String,
    pub(super) key: String,
}

/// `GET /v1/proof`
#[derive(Serialize)]
pub(super) struct Proof {
    proof: String,
    ticket: String,
}

/// Of a request: `Authorization: Page ID.TICKET.DIGEST.SIGNATURE`, where the digest is that of the body.
pub(super) struct Signature<'a> {
    page: &'a str,
    ticket: &'a str,
    pub(super) digest: &'a str,
    tag: Vec<u8>,
}

impl<'a> Signature<'a> {
    /// None when it is another scheme, or malformed.
    pub(super) fn parse(authorization: &'a str) -> Option<Self> {
        let mut parts = authorization.strip_prefix(SCHEME)?.split('.');
        let [page, ticket, digest, signature] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        if !is_id(page) || parts.next().is_some() {
            return None;
        }
        Some(Self { page, ticket, digest, tag: from_hex(signature)? })
    }
}

impl Identity {
    pub(super) fn new(secret: &[u8], clock: Clock) -> Result<Self, Unspecified> {
        let tickets = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())?;
        Ok(Self { secret: hmac::Key::new(hmac::HMAC_SHA256, secret), tickets, clock })
    }

    /// For a page that is served at this host.
    pub(super) fn issue_page_key(&self, host: &str) -> PageKey {
        let id = Uuid::new_v4().simple().to_string();
        let key = to_hex(self.derive_page_key(&id, host).as_ref());
        PageKey { id, key }
    }

    /// The proof for a page; none when it does not ask for one as pages do.
    pub(super) fn prove(&self, page: &str, challenge: &str, host: &str) -> Option<Proof> {
        if !is_id(page) || !is_id(challenge) {
            return None;
        }
        let issued_ms = self.clock.now().as_millis().to_string();
        let ticket = format!("{issued_ms}-{}", to_hex(sign(&self.tickets, &[page, &issued_ms]).as_ref()));
        let proof = sign(&self.page_key(page, host), &["proof", challenge, &ticket]);
        Some(Proof { proof: to_hex(proof.as_ref()), ticket })
    }

    /// Whether a request carries a ticket of this run that has not expired.
    pub(super) fn has_valid_ticket(&self, signature: &Signature<'_>) -> bool {
        let read = || {
            let (issued_ms, tag) = signature.ticket.split_once('-')?;
            let message = message(&[signature.page, issued_ms]);
            hmac::verify(&self.tickets, message.as_bytes(), &from_hex(tag)?).ok()?;
            let issued_at = Duration::from_millis(issued_ms.parse().ok()?);
            Some(self.clock.now() <= issued_at + TICKET_LIFETIME)
        };
        read() == Some(true)
    }

    /// Whether the page that signed the request knows the code.
    pub(super) fn is_signed_with(
        &self,
        code: &str,
        signature: &Signature<'_>,
        host: &str,
        (method, path): (&str, &str),
    ) -> bool {
        let message = message(&["request", signature.ticket, method, path, signature.digest, code]);
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
    hmac::sign(key, message(parts).as_bytes())
}

/// No part but the last one can hold the character between them.
fn message(parts: &[&str]) -> String {
    parts.join("\n")
}

fn is_id(text: &str) -> bool {
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

    fn identity(secret: &[u8]) -> Identity {
        Identity::new(secret, Clock::start()).unwrap()
    }

    fn key_of(page: &PageKey) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &from_hex(&page.key).unwrap())
    }

    #[test]
    fn a_page_knows_its_daemon_again_after_a_restart_and_nobody_else() {
        let page = identity(b"secret").issue_page_key(HOST);
        let is_proven = |prover: &Identity, host: &str| {
            let proof = prover.prove(&page.id, CHALLENGE, host).unwrap();
            let message = message(&["proof", CHALLENGE, &proof.ticket]);
            hmac::verify(&key_of(&page), message.as_bytes(), &from_hex(&proof.proof).unwrap()).is_ok()
        };
        assert!(is_proven(&identity(b"secret"), HOST));
        assert!(!is_proven(&identity(b"another"), HOST));
        assert!(!is_proven(&identity(b"secret"), "localhost:7077"), "the key is of one address");
    }

    #[test]
    fn what_is_not_asked_as_pages_ask_is_not_proven() {
        let identity = identity(b"secret");
        for (page, challenge) in
            [("", CHALLENGE), (PAGE, ""), (PAGE, &CHALLENGE[1..]), (PAGE, &PAGE.replace('0', "\n"))]
        {
            assert!(identity.prove(page, challenge, HOST).is_none(), "{page:?} {challenge:?}");
        }
        for malformed in ["", "Bearer x", "Page ", "Page a.b.c.d", "Page a.b.c"] {
            assert!(Signature::parse(malformed).is_none(), "{malformed}");
        }
    }

    #[test]
    fn a_signature_is_good_for_its_request_its_code_its_address_and_this_run_alone() {
        let identity = identity(b"secret");
        let page = identity.issue_page_key(HOST);
        let ticket = identity.prove(&page.id, CHALLENGE, HOST).unwrap().ticket;
        let tag = sign(&key_of(&page), &["request", &ticket, RETRY.0, RETRY.1, "digest", "code"]);
        let header = |digest: &str| format!("Page {}.{ticket}.{digest}.{}", page.id, to_hex(tag.as_ref()));
        let good = header("digest");
        let signature = Signature::parse(&good).unwrap();
        assert!(identity.has_valid_ticket(&signature));
        assert!(identity.is_signed_with("code", &signature, HOST, RETRY));
        assert!(!identity.is_signed_with("another", &signature, HOST, RETRY));
        assert!(!identity.is_signed_with("code", &signature, "[::1]:7077", RETRY));
        assert!(!identity.is_signed_with("code", &signature, HOST, ("POST", "/v1/other")));
        let altered = header("another");
        let altered = Signature::parse(&altered).unwrap();
        assert!(!identity.is_signed_with("code", &altered, HOST, RETRY));
        let restarted = Identity::new(b"secret", Clock::start()).unwrap();
        assert!(!restarted.has_valid_ticket(&signature));
    }
}
