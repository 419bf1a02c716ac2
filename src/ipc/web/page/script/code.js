// The access code. It is only in memory: what a browser stores for an address can be read by another program that
// listens there later.

// The request header can carry no other characters.
const CODE_PATTERN = /^[\x21-\x7e]+$/;

let code = null;
// Whether the daemon takes a code, and whether it shows anything without one.
let mayChange = false;
let needsCode = false;
const showKeys = () => {
  show("forget", code !== null);
  show("unlock", mayChange && code === null && element("entry").hidden);
};
const forgetCode = () => {
  code = null;
  showKeys();
};
// Returns whether it may be a code.
const rememberCode = (given) => {
  forgetCode();
  if (!CODE_PATTERN.test(given)) return false;
  code = given;
  showKeys();
  return true;
};
const takeCodeFromAddress = () => {
  if (!location.hash.startsWith("#token=")) return;
  let given = location.hash.slice("#token=".length);
  history.replaceState(null, "", location.pathname);
  try { given = decodeURIComponent(given); } catch { /* The code itself contains a percent sign. */ }
  if (rememberCode(given)) {
    closeCodeForm(true);
    reconnect();
  } else {
    askForCode(say("not_a_code"), reconnectIfEntered);
  }
};

// Called when the form is closed, with whether a code was entered.
let onCodeFormClosed = null;
const askForCode = (why, onClosed, mayCancel = true) => {
  onCodeFormClosed?.(false);
  onCodeFormClosed = onClosed;
  text("why-code", why);
  show("cancel", mayCancel);
  show("entry", true);
  showKeys();
  element("code").value = "";
  element("code").focus();
};
const closeCodeForm = (isEntered) => {
  const onClosed = onCodeFormClosed;
  onCodeFormClosed = null;
  show("entry", false);
  showKeys();
  onClosed?.(isEntered);
};
const reconnectIfEntered = (isEntered) => {
  if (isEntered) reconnect();
};
element("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = element("code").value.trim();
  element("code").value = "";
  if (rememberCode(given)) {
    closeCodeForm(true);
  } else {
    text("why-code", say("not_a_code"));
    element("code").focus();
  }
});
element("cancel").addEventListener("click", () => closeCodeForm(false));
element("unlock").addEventListener("click", () => askForCode(say("enter_once"), (isEntered) => {
  reconnectIfEntered(isEntered);
  element(isEntered ? "forget" : "unlock").focus();
}));
element("forget").addEventListener("click", () => {
  forgetCode();
  text("outcome", say("code_forgotten"));
  element("needs-title").focus();
  // What only people with the code see goes with it.
  if (!needsCode) reconnect();
});

