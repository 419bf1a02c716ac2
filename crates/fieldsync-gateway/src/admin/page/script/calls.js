
// Calls of the gateway. The token is only in memory: other programs could read what a browser stores for an address.

// The request header can carry no other characters.
const TOKEN_PATTERN = /^[\x21-\x7e]+$/;
const CALL_TIMEOUT_MS = 60_000;

let token = null;

// A call that the gateway did not carry out, with the reason for people.
class CallError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

// Paths are relative to this page, so that a proxy may put it below another one.
const call = async (path, { method = "GET", body } = {}) => {
  let response;
  try {
    response = await fetch(path, {
      method,
      body,
      headers: { authorization: `Bearer ${token}`, ...(body === undefined ? {} : { "content-type": "application/json" }) },
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
      referrerPolicy: "no-referrer",
      signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
    });
  } catch {
    throw new CallError("The gateway does not respond.", 0);
  }
  const date = Date.parse(response.headers.get("date"));
  if (!Number.isNaN(date)) clockOffset = date - Date.now();
  if (response.ok) return response;
  const problem = await response.json().catch(() => null);
  const message = problem?.error?.message;
  throw new CallError(message ? replaceHidden(message) : `The gateway responded with HTTP ${response.status}.`, response.status);
};
const callJson = async (path, options) => (await call(path, options)).json();
