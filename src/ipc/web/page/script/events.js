// The event stream. EventSource cannot send the signature, and does not report errors, so this uses fetch.

const RECONNECT_DELAY_MIN_MS = 1000;
const RECONNECT_DELAY_MAX_MS = 8000;
// After a stream that ends sooner than this, the delay doubles.
const STABLE_STREAM_MS = 5000;

const SHOWN = { status: showStatus, review: showReview, waiting: showWaiting, sent: showSent };
const handleEvent = (event) => {
  const [name, data] = event.split("\n").map((line) => line.slice(line.indexOf(": ") + 2));
  SHOWN[name]?.(JSON.parse(data));
  showConnected();
};
const readEvents = async (signal) => {
  const path = "/v1/events";
  const headers = await signRequest(await requestProof(signal), "GET", path, "");
  const response = await fetch(`${path}?since=${startOfDay()}`, { headers, signal, cache: "no-store" });
  if (!response.ok) throw await RequestError.from(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    buffer += value;
    const events = buffer.split("\n\n");
    buffer = events.pop();
    events.forEach(handleEvent);
  }
};

let reconnectDelay = RECONNECT_DELAY_MIN_MS;
let awaySince = null;
// The last code was wrong, and nobody has been told.
let isCodeRejected = false;
const showConnected = () => {
  if (isCodeRejected) {
    isCodeRejected = false;
    askForCode(say("wrong_code"), reconnectIfEntered);
  }
  awaySince = null;
  show("away", false);
  document.body.classList.remove("away");
};
const showDisconnected = (problem) => {
  stopTicking();
  awaySince ??= new Date();
  const time = formatTime(awaySince);
  let sentence = say("away", { time });
  if (problem instanceof RequestError) sentence = say("away_problem", { time, problem: problem.message });
  if (problem instanceof Impostor) {
    sentence = say("away_impostor", { time, problem: problem.message });
    closeCodeForm(false);
  }
  text("away", `${sentence} ${say("away_data")}`);
  show("away", true);
  document.body.classList.add("away");
  speak(sentence);
};
const visibilityChange = (signal) => new Promise((resolve) => {
  document.addEventListener("visibilitychange", resolve, { once: true, signal });
});

// Ends the present stream, so that the next one is for a page with or without the code.
let stream = new AbortController();
const reconnect = () => stream.abort();
const readEventsWhileShown = async () => {
  stream = new AbortController();
  const hide = () => { if (document.hidden) { stopTicking(); reconnect(); } };
  document.addEventListener("visibilitychange", hide);
  // "Sent today" is another list at midnight. The hour may be changed on that day.
  const midnight = new Date(startOfDay());
  midnight.setDate(midnight.getDate() + 1);
  const tomorrow = setTimeout(reconnect, midnight.getTime() - Date.now() + STABLE_STREAM_MS);
  try {
    await readEvents(stream.signal);
    return null;
  } catch (caught) {
    return caught;
  } finally {
    clearTimeout(tomorrow);
    document.removeEventListener("visibilitychange", hide);
  }
};
// Asks for the code without which nothing is shown. `wasWrong`: one was given.
const requireCode = async (wasWrong) => {
  let why = say("wrong_code");
  if (!wasWrong) {
    // The form may be open already, for another reason.
    why = element("entry").hidden ? say("reading_needs_code") : element("why-code").textContent;
  }
  text("sentence", say("status_needs_code"));
  await new Promise((resolve) => { askForCode(why, resolve, false); });
};
const follow = async () => {
  for (;;) {
    while (document.hidden) await visibilityChange();
    const [startedAt, codeBefore] = [performance.now(), code];
    const problem = await readEventsWhileShown();
    if (stream.signal.aborted) continue;
    if (problem?.code === "wrong_code") {
      // The code was entered while a request without it was under way: that one says nothing about it.
      if (code !== null && code !== codeBefore) continue;
      if (code !== null) {
        // Perhaps nothing is needed to read.
        isCodeRejected = true;
        forgetCode();
        continue;
      }
      await requireCode(isCodeRejected);
      isCodeRejected = false;
      continue;
    }
    showDisconnected(problem);
    if (performance.now() - startedAt >= STABLE_STREAM_MS) reconnectDelay = RECONNECT_DELAY_MIN_MS;
    const waiting = new AbortController();
    await Promise.race([visibilityChange(waiting.signal), new Promise((resolve) => { setTimeout(resolve, reconnectDelay); })]);
    waiting.abort();
    reconnectDelay = Math.min(reconnectDelay * 2, RECONNECT_DELAY_MAX_MS);
  }
};

addEventListener("hashchange", takeCodeFromAddress);
takeCodeFromAddress();
showKeys();
follow();
