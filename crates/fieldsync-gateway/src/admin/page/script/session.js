
// The token is entered and forgotten, and the lists are kept up to date.

const REFRESH_INTERVAL_MS = 60_000;

const say = (message) => text("outcome", message);
const closeDialogs = () => {
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
};

const askForToken = (fault = "") => {
  token = null;
  closeDialogs();
  show("lists", false);
  show("session", false);
  show("away", false);
  show("entry", true);
  // What only operators see goes with the token.
  element("device-table").tBodies[0].replaceChildren();
  element("records").replaceChildren();
  element("payload").value = "";
  rows.clear();
  deviceNames.clear();
  say("");
  text("token-fault", fault);
  element("token").focus();
};

let waiting = 0;
let last = Promise.resolve();
// Runs one action after the other, and shows why one failed. Actions of a token that was forgotten meanwhile are dropped.
const run = (action) => {
  const owner = token;
  waiting += 1;
  document.body.setAttribute("aria-busy", "true");
  const result = last.then(() => (token === owner ? runNow(action) : undefined)).finally(() => {
    waiting -= 1;
    if (waiting === 0) document.body.removeAttribute("aria-busy");
  });
  last = result.catch(() => {});
  return result;
};
const runNow = async (action) => {
  try {
    await action();
    show("away", false);
  } catch (error) {
    if (!(error instanceof CallError)) throw error;
    if (error.status === 401) {
      askForToken("The gateway does not accept this token.");
    } else {
      text("away", `${error.message} What is shown may be old.`);
      show("away", true);
    }
  }
};
const refresh = async () => {
  await refreshDevices();
  await refreshRefused();
  text("as-of", `As of ${clock.format(new Date())}`);
  show("entry", false);
  show("lists", true);
  show("session", true);
};

element("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = element("token").value.trim();
  element("token").value = "";
  if (!TOKEN_PATTERN.test(given)) {
    askForToken("This is not a token: it has spaces, or characters that no token has.");
    return;
  }
  token = given;
  text("token-fault", "");
  run(async () => {
    await refresh();
    element("devices-title").focus();
  });
});
element("refresh").addEventListener("click", () => run(refresh));
element("forget").addEventListener("click", () => askForToken());

const refreshIfVisible = () => {
  if (token !== null && waiting === 0 && !document.hidden && document.querySelector("dialog[open]") === null) run(refresh);
};
setInterval(refreshIfVisible, REFRESH_INTERVAL_MS);
document.addEventListener("visibilitychange", refreshIfVisible);

const isLoopback = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname) || location.hostname.endsWith(".localhost");
show("in-clear", location.protocol === "http:" && !isLoopback);
askForToken();
