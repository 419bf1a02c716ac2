// Recognising the daemon that served this page, by the key in the page.
//
// While the daemon is not running, another process may listen at its address. So the daemon has to prove that it served
// this page before the page sends anything else. The page never sends the code: it signs requests with it.

const PROOF_TIMEOUT_MS = 5000;
const CHALLENGE_BYTES = 16;
const HMAC = { name: "HMAC", hash: "SHA-256" };
const { page, key: keyText } = document.body.dataset;
delete document.body.dataset.key;
const fromHex = (digits) => Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
const toHex = (bytes) => [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const encode = (...parts) => new TextEncoder().encode(parts.join("\n"));
// Browsers provide crypto.subtle to pages of this device. Without it, the proof cannot be checked.
const key = window.crypto.subtle?.importKey("raw", fromHex(keyText), HMAC, false, ["sign", "verify"]);

class Impostor extends Error {}
class RequestError extends Error {
  static async from(response) {
    const error = (await response.json().catch(() => null))?.error;
    const known = typeof error?.code === "string" ? find("errors", error.code) : undefined;
    const problem = new RequestError(known ?? stripControls(error?.message ?? say("unknown_problem", { status: response.status })));
    problem.code = error?.code;
    problem.status = response.status;
    return problem;
  }
  // A request that timed out, or failed in the daemon, may be partly done.
  get changedNothing() { return this.status < 500 && this.status !== 408; }
}

// Resolves to a ticket for one request once the daemon has proved itself.
const requestProof = async (signal) => {
  if (!key) throw new Impostor(say("cannot_verify"));
  const signals = [AbortSignal.timeout(PROOF_TIMEOUT_MS), signal].filter(Boolean);
  const challenge = toHex(crypto.getRandomValues(new Uint8Array(CHALLENGE_BYTES)));
  const response = await fetch(`/v1/proof?page=${page}&challenge=${challenge}`, {
    cache: "no-store",
    redirect: "manual",
    signal: AbortSignal.any(signals),
  });
  const { proof, ticket } = parseJson(await response.text()) ?? {};
  const isProven = typeof proof === "string" && typeof ticket === "string"
    && await crypto.subtle.verify(HMAC, await key, fromHex(proof), encode("proof", challenge, ticket));
  if (!isProven) throw new Impostor(say("impostor"));
  return ticket;
};
// Proves that this page knows the code, for one request, without revealing it.
const signRequest = async (ticket, method, path, body) => {
  if (code === null) return {};
  const digest = toHex(await crypto.subtle.digest("SHA-256", encode(body)));
  const signed = encode("request", ticket, method, path, digest, code);
  const signature = toHex(await crypto.subtle.sign(HMAC, await key, signed));
  return { Authorization: `Page ${page}.${ticket}.${digest}.${signature}` };
};

