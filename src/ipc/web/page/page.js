"use strict";
// Shows the events of /v1/events, and queues records again with the access code. All content is untrusted, so it is
// inserted as text. Nothing runs while the page is hidden.
//
// While the daemon is not running, another process may listen at its address. So the daemon has to prove that it served
// this page before the page sends anything else. The page never sends the code: it signs requests with it.
(() => {
  const RECONNECT_DELAY_MIN_MS = 1000;
  const RECONNECT_DELAY_MAX_MS = 8000;
  // After a stream that ends sooner than this, the delay doubles.
  const STABLE_STREAM_MS = 5000;
  // Screen readers get the sentence at most this often.
  const SPEECH_INTERVAL_MS = 10000;
  const CHANGE_TIMEOUT_MS = 20000;
  const PROOF_TIMEOUT_MS = 5000;
  const CHALLENGE_BYTES = 16;
  // The request header can carry no other characters.
  const CODE_PATTERN = /^[\x21-\x7e]+$/;
  const NOT_A_CODE = "This is not a code: codes have no spaces, and only the letters, digits and signs of an English keyboard.";
  const CHECK_LIST = "Check the list: records that are still there were not queued again.";

  const element = (id) => document.getElementById(id);
  const text = (id, value) => {
    const node = element(id);
    if (node.textContent !== value) node.textContent = value;
  };
  const show = (id, shown) => { element(id).hidden = !shown; };
  // Removes control characters and changes of text direction from untrusted text.
  const stripControls = (untrusted) => untrusted.replace(/[\p{Cc}\u061C\u200E\u200F\u202A-\u202E\u2066-\u2069]/gu, "\uFFFD");
  const countRecords = (n) => (n === 1 ? "1 record" : `${n} records`);

  const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
  const hour = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
  const formatTime = (time) => {
    const at = new Date(time);
    return day.format(at) === day.format(new Date()) ? hour.format(at) : `${day.format(at)}, ${hour.format(at)}`;
  };

  // Recognising the daemon that served this page, by the key in the page.

  const HMAC = { name: "HMAC", hash: "SHA-256" };
  const { page, key: keyText } = document.body.dataset;
  delete document.body.dataset.key;
  const fromHex = (digits) => Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
  const toHex = (bytes) => [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const encode = (...parts) => new TextEncoder().encode(parts.join("\n"));
  // Browsers provide crypto.subtle to pages of this device. Without it, the proof cannot be checked.
  const key = window.crypto.subtle?.importKey("raw", fromHex(keyText), HMAC, false, ["sign", "verify"]);

  class Impostor extends Error {}
  const parseJson = (json) => { try { return JSON.parse(json); } catch { return null; } };
  // Resolves to a ticket for one request once the daemon has proved itself.
  const requestProof = async (signal) => {
    if (!key) throw new Impostor("This browser cannot verify the daemon at this address");
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
    if (!isProven) throw new Impostor("Another program responds at this address, not the daemon that served this page");
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

  // The access code. It is only in memory: what a browser stores for an address can be read by another program that
  // listens there later.

  let code = null;
  const forgetCode = () => {
    code = null;
    show("forget", false);
  };
  // Returns whether it may be a code.
  const rememberCode = (given) => {
    forgetCode();
    if (!CODE_PATTERN.test(given)) return false;
    code = given;
    show("forget", true);
    return true;
  };
  const takeCodeFromAddress = () => {
    if (!location.hash.startsWith("#token=")) return;
    let given = location.hash.slice("#token=".length);
    history.replaceState(null, "", location.pathname);
    try { given = decodeURIComponent(given); } catch { /* The code itself contains a percent sign. */ }
    if (rememberCode(given)) closeCodeForm(true); else askForCode(NOT_A_CODE, null);
  };

  // Called when the form is closed, with whether a code was entered.
  let onCodeFormClosed = null;
  const askForCode = (why, onClosed, mayCancel = true) => {
    onCodeFormClosed?.(false);
    onCodeFormClosed = onClosed;
    text("why-code", why);
    show("cancel", mayCancel);
    show("entry", true);
    element("code").value = "";
    element("code").focus();
  };
  const closeCodeForm = (isEntered) => {
    const onClosed = onCodeFormClosed;
    onCodeFormClosed = null;
    show("entry", false);
    onClosed?.(isEntered);
  };
  element("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    const given = element("code").value.trim();
    element("code").value = "";
    if (rememberCode(given)) {
      closeCodeForm(true);
    } else {
      text("why-code", NOT_A_CODE);
      element("code").focus();
    }
  });
  element("cancel").addEventListener("click", () => closeCodeForm(false));
  element("forget").addEventListener("click", () => {
    forgetCode();
    text("outcome", "This page no longer has the code.");
    element("review-title").focus();
  });

  class RequestError extends Error {
    static async from(response) {
      const body = await response.json().catch(() => null);
      const error = new RequestError(body?.error?.message ?? `the response was HTTP ${response.status}`);
      error.code = body?.error?.code;
      error.status = response.status;
      return error;
    }
    // A request that timed out, or failed in the daemon, may be partly done.
    get changedNothing() { return this.status < 500 && this.status !== 408; }
  }

  // The status.

  let spokenAt = -SPEECH_INTERVAL_MS;
  let toSpeak = null;
  let spoken = "";
  const speak = (sentence) => {
    const withoutCountdown = sentence.replace(/^Waiting \d+ s/, "Waiting");
    const isScheduled = toSpeak !== null;
    toSpeak = withoutCountdown === spoken ? null : sentence;
    if (isScheduled || toSpeak === null) return;
    setTimeout(() => {
      if (toSpeak !== null) {
        spokenAt = performance.now();
        spoken = toSpeak.replace(/^Waiting \d+ s/, "Waiting");
        element("spoken").textContent = toSpeak;
      }
      toSpeak = null;
    }, Math.max(0, spokenAt + SPEECH_INTERVAL_MS - performance.now()));
  };

  // While the daemon waits, the sentence counts down.
  let ticking = null;
  const stopTicking = () => { clearInterval(ticking); ticking = null; };
  const tick = (sentence, until) => {
    const left = Math.max(0, Math.ceil((until - Date.now()) / 1000));
    text("sentence", sentence.replace(/^Waiting \d+ s/, `Waiting ${left} s`));
  };

  const LINK = { online: "Online", offline: "Offline", captive_portal: "A captive portal responds", unknown: "Not known yet" };
  const showStatus = (status) => {
    const { sync, records: counts, connectivity, alerts } = status;
    const sentence = stripControls(sync.text);
    stopTicking();
    text("sentence", sentence);
    if (sync.phase === "waiting" && sync.next_attempt_at) {
      const until = new Date(sync.next_attempt_at).getTime();
      tick(sentence, until);
      ticking = setInterval(tick, 1000, sentence, until);
    }
    document.title = `${sentence} · fieldsync`;
    speak(sentence);
    show("run", sync.total > 0);
    element("bar").max = Math.max(1, sync.total);
    element("bar").value = sync.done;
    const left = sync.eta_s === null ? "" : `, about ${formatDuration(sync.eta_s)} left`;
    text("done", `${sync.done} of ${countRecords(sync.total)} done${left}`);
    const state = LINK[connectivity.state] ?? stripControls(connectivity.state);
    const metered = connectivity.metered ? ", on a metered network" : "";
    text("link", `Connection: ${state} since ${formatTime(connectivity.since)}${metered}`);
    for (const [name, count] of Object.entries(counts)) {
      if (element(name)) text(name, String(count));
    }
    show("counts", true);
    showAlerts(alerts.filter((alert) => alert.alert !== "needs_review"));
  };
  const formatDuration = (s) => {
    if (s < 60) return `${s} s`;
    return s < 5400 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3600)} h`;
  };
  const showAlerts = (alerts) => {
    show("attention", alerts.length > 0);
    const lines = alerts.map((alert) => `${stripControls(alert.message)} (since ${formatTime(alert.since)})`);
    const shown = [...element("alerts").children].map((item) => item.textContent);
    if (JSON.stringify(lines) === JSON.stringify(shown)) return;
    element("alerts").replaceChildren(...lines.map((line) => {
      const item = document.createElement("li");
      item.textContent = line;
      return item;
    }));
  };

  // Records under review. Rows that stay are not moved, so that they keep the focus.

  const rows = new Map();
  const newRow = (id) => {
    const row = element("record").content.firstElementChild.cloneNode(true);
    row.querySelector("button").addEventListener("click", (event) => {
      retry({ ids: [id] }, event.currentTarget);
    });
    rows.set(id, row);
    return row;
  };
  const fillRow = (row, record, mayRetry) => {
    const setText = (selector, value) => {
      const node = row.querySelector(selector);
      if (node.textContent !== value) node.textContent = value;
    };
    const error = record.last_error;
    const type = stripControls(record.type);
    setText("h3", type);
    setText(".why", record.why);
    const fault = [error?.code, error?.field && `at ${error.field}`].filter(Boolean).join(" ");
    setText(".said", [fault, error?.message].filter(Boolean).map(stripControls).join(": "));
    const blocked = record.holds > 0 ? ` It holds back ${record.holds} later ${record.holds === 1 ? "record" : "records"}.` : "";
    const times = record.attempts === 1 ? "once" : `${record.attempts} times`;
    setText(".facts", `Sent ${times}, under review since ${formatTime(record.since)}.${blocked}`);
    setText(".waiting", stripControls(record.waiting_for?.text ?? ""));
    setText(".id", `Id ${record.id}`);
    const button = row.querySelector("button");
    button.hidden = !mayRetry;
    button.setAttribute("aria-label", `Retry ${type}, id ending in ${record.id.slice(-4)}`);
  };
  const showReview = (review) => {
    show("unreadable", review.unreadable === true);
    if (review.unreadable) {
      // The list as it was shown before may still be right.
      show("none", false);
      return;
    }
    const ids = new Set(review.records.map((record) => record.id));
    const list = element("records");
    const focus = document.activeElement;
    const focused = [...list.children].findIndex((row) => row.contains(focus));
    for (const [id, row] of rows) {
      if (!ids.has(id)) {
        row.remove();
        rows.delete(id);
      }
    }
    let before = list.firstElementChild;
    for (const record of review.records) {
      const row = rows.get(record.id) ?? newRow(record.id);
      fillRow(row, record, review.retry);
      if (row === before) before = before.nextElementSibling; else list.insertBefore(row, before);
    }
    // If the record with the focus is gone, the focus moves to the record in its place, or to the heading.
    if (focused >= 0 && !list.contains(document.activeElement)) {
      const next = list.children[Math.min(focused, list.children.length - 1)];
      (list.contains(focus) ? focus : next?.querySelector("button") ?? element("review-title")).focus();
    }
    const some = review.records.length > 0;
    if (!some && document.activeElement === element("retry-all")) element("review-title").focus();
    show("none", !some);
    show("only-shows", some && !review.retry);
    show("for-all", review.retry && (some || code !== null));
    show("retry-all", some);
    show("more", review.more);
  };

  const retry = async (selection, button) => {
    if (button.getAttribute("aria-disabled") === "true") return;
    const retryWithCode = (isEntered) => {
      if (isEntered) retry(selection, button);
      else if (button.isConnected) button.focus();
    };
    if (code === null) {
      askForCode("You need to enter it once. The page keeps it until it is closed.", retryWithCode);
      return;
    }
    button.setAttribute("aria-disabled", "true");
    text("outcome", "");
    try {
      const [path, body] = ["/v1/quarantine/retry", JSON.stringify(selection)];
      const ticket = await requestProof();
      const response = await fetch(path, {
        method: "POST",
        headers: { "Content-Type": "application/json", ...await signRequest(ticket, "POST", path, body) },
        body,
        signal: AbortSignal.timeout(CHANGE_TIMEOUT_MS),
      });
      if (!response.ok) throw await RequestError.from(response);
      const { changed } = await response.json();
      text("outcome", `${countRecords(changed)} queued again.`);
      if (button.isConnected) button.focus();
    } catch (problem) {
      if (problem.code === "wrong_code") {
        forgetCode();
        askForCode("That was not the right code.", retryWithCode);
      } else if (problem instanceof Impostor) {
        text("outcome", `Nothing was sent. ${problem.message}: do not enter the code here.`);
      } else if (!(problem instanceof RequestError)) {
        text("outcome", `The daemon did not respond. ${CHECK_LIST}`);
      } else if (problem.changedNothing) {
        text("outcome", `Nothing was changed: ${stripControls(problem.message)}.`);
      } else {
        text("outcome", `This may be partly done: ${stripControls(problem.message)}. ${CHECK_LIST}`);
      }
    } finally {
      button.removeAttribute("aria-disabled");
    }
  };
  element("retry-all").addEventListener("click", (event) => retry({ all: true }, event.currentTarget));

  // The event stream. EventSource cannot send the signature, and does not report errors, so this uses fetch.

  const SHOWN = { status: showStatus, review: showReview };
  const handleEvent = (event) => {
    const [name, data] = event.split("\n").map((line) => line.slice(line.indexOf(": ") + 2));
    SHOWN[name]?.(JSON.parse(data));
    showConnected();
  };
  const readEvents = async (signal) => {
    const path = "/v1/events";
    const headers = await signRequest(await requestProof(signal), "GET", path, "");
    const response = await fetch(path, { headers, signal, cache: "no-store" });
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
  const showConnected = () => {
    awaySince = null;
    show("away", false);
    document.body.classList.remove("away");
  };
  const showDisconnected = (problem) => {
    stopTicking();
    awaySince ??= new Date();
    const since = `since ${formatTime(awaySince)}`;
    let sentence = `The daemon has not responded ${since}.`;
    if (problem instanceof RequestError) sentence = `The status cannot be shown ${since}: ${stripControls(problem.message)}.`;
    if (problem instanceof Impostor) {
      sentence = `${problem.message}, ${since}. Do not enter the code here.`;
      closeCodeForm(false);
    }
    text("away", `${sentence} The data below is from before. The page tries again by itself.`);
    show("away", true);
    document.body.classList.add("away");
    speak(sentence);
  };
  const visibilityChange = (signal) => new Promise((resolve) => {
    document.addEventListener("visibilitychange", resolve, { once: true, signal });
  });
  const follow = async () => {
    for (;;) {
      while (document.hidden) await visibilityChange();
      const visibility = new AbortController();
      const hide = () => { if (document.hidden) { stopTicking(); visibility.abort(); } };
      document.addEventListener("visibilitychange", hide);
      const [startedAt, codeBefore] = [performance.now(), code];
      let problem = null;
      try { await readEvents(visibility.signal); } catch (caught) { problem = caught; }
      document.removeEventListener("visibilitychange", hide);
      if (visibility.signal.aborted) continue;
      if (problem?.code === "wrong_code") {
        // The code was entered while a request without it was under way: that one says nothing about it.
        if (code !== null && code !== codeBefore) continue;
        let why = "That was not the right code.";
        if (code === null) {
          // The form may be open already, for another reason.
          why = element("entry").hidden ? "This device shows its records only with the code." : element("why-code").textContent;
        }
        forgetCode();
        text("sentence", "The code is needed to show the status.");
        await new Promise((resolve) => { askForCode(why, resolve, false); });
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
  show("forget", code !== null);
  follow();
})();
