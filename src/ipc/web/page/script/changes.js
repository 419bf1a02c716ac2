// Changes, with the access code: try now, continue, retry.

const CHANGE_TIMEOUT_MS = 20000;

const change = async (path, content, button, describeDone) => {
  if (button.getAttribute("aria-disabled") === "true") return;
  const changeWithCode = (isEntered) => {
    if (isEntered) change(path, content, button, describeDone);
    else if (button.isConnected) button.focus();
  };
  if (code === null) {
    askForCode(say("enter_once"), changeWithCode);
    return;
  }
  button.setAttribute("aria-disabled", "true");
  text("outcome", "");
  try {
    const body = JSON.stringify(content);
    const ticket = await requestProof();
    const response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...await signRequest(ticket, "POST", path, body) },
      body,
      signal: AbortSignal.timeout(CHANGE_TIMEOUT_MS),
    });
    if (!response.ok) throw await RequestError.from(response);
    text("outcome", describeDone(await response.json()));
    if (button.isConnected && !button.hidden) button.focus();
    // Now that the code is known to be right: what only people with the code see.
    if (lastStatus?.page.knows_code === false) reconnect();
  } catch (problem) {
    if (problem.code === "wrong_code") {
      forgetCode();
      askForCode(say("wrong_code"), changeWithCode);
    } else {
      text("outcome", describeFailure(problem));
    }
  } finally {
    button.removeAttribute("aria-disabled");
  }
};
const describeFailure = (problem) => {
  if (problem instanceof Impostor) return say("not_sent", { problem: problem.message });
  if (!(problem instanceof RequestError)) return say("did_not_respond");
  return say(problem.changedNothing ? "nothing_changed" : "partly_done", { problem: problem.message });
};

const retry = (selection, button) => {
  change("/v1/quarantine/retry", selection, button, ({ changed }) => plural("queued_again", changed));
};
element("retry-all").addEventListener("click", (event) => retry({ all: true }, event.currentTarget));
element("try-now").addEventListener("click", (event) => {
  change("/v1/sync", {}, event.currentTarget, () => say("tries_now"));
});
element("continue").addEventListener("click", (event) => {
  change("/v1/resume", {}, event.currentTarget, () => say("continues"));
});

