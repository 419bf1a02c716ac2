"use strict";
// Shows what /v1/events says, and sends records again with the code. Whatever it shows was written by
// others: it is put in as text. Nothing runs while nobody looks.
//
// While the daemon does not run, another process may listen at its address. So a daemon has to prove that it served
// this page before anything else is sent, and the code itself is never sent: requests are signed with it.
(() => {
  // The first wait before the daemon is asked again, and the longest.
  const FIRST_WAIT_MS = 1000;
  const LONGEST_WAIT_MS = 8000;
  // A stream that ends sooner than this was none to rely on: it is asked for less and less often.
  const LASTED_MS = 5000;
  // The sentence is spoken at most this often.
  const SPOKEN_EVERY_MS = 10000;
  const CHANGE_LIMIT_MS = 20000;
  const PROOF_LIMIT_MS = 5000;
  const CHALLENGE_BYTES = 16;
  // Nothing else fits the header that carries it: with another one nothing could be asked at all.
  const CODE_FORM = /^[\x21-\x7e]+$/;
  const NO_CODE = "That cannot be a code: codes have no spaces, and only the letters, digits and signs of an English keyboard.";
  const LOOK = "Look at the list: what is still there was not sent again.";

  const by = (id) => document.getElementById(id);
  const text = (id, value) => {
    const node = by(id);
    if (node.textContent !== value) node.textContent = value;
  };
  const show = (id, shown) => { by(id).hidden = !shown; };
  // Foreign text, without what would command its surroundings: neither control characters nor changes of direction.
  const plain = (foreign) => foreign.replace(/[\p{Cc}\u061C\u200E\u200F\u202A-\u202E\u2066-\u2069]/gu, "\uFFFD");
  const records = (n) => (n === 1 ? "1 record" : `${n} records`);

  const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
  const hour = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
  const when = (time) => {
    const at = new Date(time);
    return day.format(at) === day.format(new Date()) ? hour.format(at) : `${day.format(at)}, ${hour.format(at)}`;
  };

  // The daemon that served this page, known again by the key that came with it.

  const HMAC = { name: "HMAC", hash: "SHA-256" };
  const { page, key: keyText } = document.body.dataset;
  delete document.body.dataset.key;
  const fromHex = (digits) => Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
  const toHex = (bytes) => [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const encode = (...parts) => new TextEncoder().encode(parts.join("\n"));
  // Without crypto.subtle, which browsers give to pages of their own device, nothing can be proven.
  const key = window.crypto.subtle?.importKey("raw", fromHex(keyText), HMAC, false, ["sign", "verify"]);

  class Impostor extends Error {}
  const parse = (json) => { try { return JSON.parse(json); } catch { return null; } };
  // Gives the ticket for a request to the daemon that served this page.
  const prove = async (signal) => {
    if (!key) throw new Impostor("This browser cannot check who answers at this address");
    const limits = [AbortSignal.timeout(PROOF_LIMIT_MS), signal].filter(Boolean);
    const challenge = toHex(crypto.getRandomValues(new Uint8Array(CHALLENGE_BYTES)));
    const answer = await fetch(`/v1/proof?page=${page}&challenge=${challenge}`, {
      cache: "no-store",
      redirect: "manual",
      signal: AbortSignal.any(limits),
    });
    const { proof, ticket } = parse(await answer.text()) ?? {};
    const isProven = typeof proof === "string" && typeof ticket === "string"
      && await crypto.subtle.verify(HMAC, await key, fromHex(proof), encode("proof", challenge, ticket));
    if (!isProven) throw new Impostor("Something else answers at this address, not the daemon that served this page");
    return ticket;
  };
  // Shows that the code is known here, for this request alone, without showing the code.
  const authorization = async (ticket, method, path, body) => {
    if (code === null) return {};
    const digest = toHex(await crypto.subtle.digest("SHA-256", encode(body)));
    const signed = encode("request", ticket, method, path, digest, code);
    const signature = toHex(await crypto.subtle.sign(HMAC, await key, signed));
    return { Authorization: `Page ${page}.${ticket}.${digest}.${signature}` };
  };

  // The code, in the memory of this page alone: what a browser stores for an address can be read by whatever
  // answers there later.

  let code = null;
  const forgetCode = () => {
    code = null;
    show("forget", false);
  };
  // Whether it can be one.
  const keepCode = (given) => {
    forgetCode();
    if (!CODE_FORM.test(given)) return false;
    code = given;
    show("forget", true);
    return true;
  };
  const codeFromAddress = () => {
    if (!location.hash.startsWith("#token=")) return;
    let given = location.hash.slice("#token=".length);
    history.replaceState(null, "", location.pathname);
    try { given = decodeURIComponent(given); } catch { /* It is meant as it stands there. */ }
    if (keepCode(given)) answered(true); else ask(NO_CODE, null);
  };

  // What is to be done once there is a code, by whether that was given.
  let asked = null;
  const ask = (why, then, mayCancel = true) => {
    asked?.(false);
    asked = then;
    text("why-code", why);
    show("cancel", mayCancel);
    show("entry", true);
    by("code").value = "";
    by("code").focus();
  };
  const answered = (given) => {
    const then = asked;
    asked = null;
    show("entry", false);
    then?.(given);
  };
  by("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    const given = by("code").value.trim();
    by("code").value = "";
    if (keepCode(given)) {
      answered(true);
    } else {
      text("why-code", NO_CODE);
      by("code").focus();
    }
  });
  by("cancel").addEventListener("click", () => answered(false));
  by("forget").addEventListener("click", () => {
    forgetCode();
    text("outcome", "The code is forgotten on this page.");
    by("review-title").focus();
  });

  class Refusal extends Error {
    static async of(answer) {
      const body = await answer.json().catch(() => null);
      const refusal = new Refusal(body?.error?.message ?? `the answer was ${answer.status}`);
      refusal.code = body?.error?.code;
      refusal.status = answer.status;
      return refusal;
    }
    // What took too long, or failed on the way, may have been done in part.
    get changedNothing() { return this.status < 500 && this.status !== 408; }
  }

  // The status.

  let spokenAt = -SPOKEN_EVERY_MS;
  let toSpeak = null;
  let spoken = "";
  const speak = (sentence) => {
    const essence = sentence.replace(/^Waiting \d+ s/, "Waiting");
    const due = toSpeak !== null;
    toSpeak = essence === spoken ? null : sentence;
    if (due || toSpeak === null) return;
    setTimeout(() => {
      if (toSpeak !== null) {
        spokenAt = performance.now();
        spoken = toSpeak.replace(/^Waiting \d+ s/, "Waiting");
        by("spoken").textContent = toSpeak;
      }
      toSpeak = null;
    }, Math.max(0, spokenAt + SPOKEN_EVERY_MS - performance.now()));
  };

  // A wait that is shown counts down.
  let ticking = null;
  const stopTicking = () => { clearInterval(ticking); ticking = null; };
  const tick = (sentence, until) => {
    const left = Math.max(0, Math.ceil((until - Date.now()) / 1000));
    text("sentence", sentence.replace(/^Waiting \d+ s/, `Waiting ${left} s`));
  };

  const LINK = { online: "Online", offline: "Offline", captive_portal: "A captive portal answers", unknown: "Not known yet" };
  const showStatus = (status) => {
    const { sync, records: counts, connectivity, alerts } = status;
    const sentence = plain(sync.text);
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
    by("bar").max = Math.max(1, sync.total);
    by("bar").value = sync.done;
    const left = sync.eta_s === null ? "" : `, about ${span(sync.eta_s)} left`;
    text("done", `${sync.done} of ${records(sync.total)} done${left}`);
    const state = LINK[connectivity.state] ?? plain(connectivity.state);
    const metered = connectivity.metered ? ", on a metered network" : "";
    text("link", `Connection: ${state} since ${when(connectivity.since)}${metered}`);
    for (const [name, count] of Object.entries(counts)) {
      if (by(name)) text(name, String(count));
    }
    show("counts", true);
    showAlerts(alerts.filter((alert) => alert.alert !== "needs_review"));
  };
  const span = (s) => {
    if (s < 60) return `${s} s`;
    return s < 5400 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3600)} h`;
  };
  const showAlerts = (alerts) => {
    show("attention", alerts.length > 0);
    const lines = alerts.map((alert) => `${plain(alert.message)} (since ${when(alert.since)})`);
    const shown = [...by("alerts").children].map((item) => item.textContent);
    if (JSON.stringify(lines) === JSON.stringify(shown)) return;
    by("alerts").replaceChildren(...lines.map((line) => {
      const item = document.createElement("li");
      item.textContent = line;
      return item;
    }));
  };

  // Records that need review. Those that stay keep their place in the document, and so the focus.

  const rows = new Map();
  const newRow = (id) => {
    const row = by("record").content.firstElementChild.cloneNode(true);
    row.querySelector("button").addEventListener("click", (event) => {
      retry({ ids: [id] }, event.currentTarget);
    });
    rows.set(id, row);
    return row;
  };
  const fill = (row, record, mayRetry) => {
    const put = (selector, value) => {
      const node = row.querySelector(selector);
      if (node.textContent !== value) node.textContent = value;
    };
    const error = record.last_error;
    const type = plain(record.type);
    put("h3", type);
    put(".why", record.why);
    put(".said", [error?.code, error?.message].filter(Boolean).map(plain).join(": "));
    const held = record.holds > 0 ? ` It holds back ${record.holds} later ${record.holds === 1 ? "one" : "ones"}.` : "";
    const times = record.attempts === 1 ? "once" : `${record.attempts} times`;
    put(".facts", `Sent ${times}, under review since ${when(record.since)}.${held}`);
    put(".id", `Id ${record.id}`);
    const button = row.querySelector("button");
    button.hidden = !mayRetry;
    button.setAttribute("aria-label", `Retry ${type}, id ending in ${record.id.slice(-4)}`);
  };
  const showReview = (review) => {
    show("unreadable", review.unreadable === true);
    if (review.unreadable) {
      // What is shown from before may be so still.
      show("none", false);
      return;
    }
    const ids = new Set(review.records.map((record) => record.id));
    const list = by("records");
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
      fill(row, record, review.retry);
      if (row === before) before = before.nextElementSibling; else list.insertBefore(row, before);
    }
    // The focus goes with its record, else it is where that was, or on the heading.
    if (focused >= 0 && !list.contains(document.activeElement)) {
      const next = list.children[Math.min(focused, list.children.length - 1)];
      (list.contains(focus) ? focus : next?.querySelector("button") ?? by("review-title")).focus();
    }
    const some = review.records.length > 0;
    if (!some && document.activeElement === by("retry-all")) by("review-title").focus();
    show("none", !some);
    show("only-shows", some && !review.retry);
    show("for-all", review.retry && (some || code !== null));
    show("retry-all", some);
    show("more", review.more);
  };

  const retry = async (selection, button) => {
    if (button.getAttribute("aria-disabled") === "true") return;
    const again = (given) => {
      if (given) retry(selection, button);
      else if (button.isConnected) button.focus();
    };
    if (code === null) {
      ask("It is asked for once, and forgotten when this page is closed.", again);
      return;
    }
    button.setAttribute("aria-disabled", "true");
    text("outcome", "");
    try {
      const [path, body] = ["/v1/quarantine/retry", JSON.stringify(selection)];
      const ticket = await prove();
      const answer = await fetch(path, {
        method: "POST",
        headers: { "Content-Type": "application/json", ...await authorization(ticket, "POST", path, body) },
        body,
        signal: AbortSignal.timeout(CHANGE_LIMIT_MS),
      });
      if (!answer.ok) throw await Refusal.of(answer);
      const { changed } = await answer.json();
      text("outcome", `${records(changed)} queued again.`);
      if (button.isConnected) button.focus();
    } catch (problem) {
      if (problem.code === "wrong_code") {
        forgetCode();
        ask("That was not the right code.", again);
      } else if (problem instanceof Impostor) {
        text("outcome", `Nothing was sent. ${problem.message}: do not enter the code here.`);
      } else if (!(problem instanceof Refusal)) {
        text("outcome", `The daemon did not answer. ${LOOK}`);
      } else if (problem.changedNothing) {
        text("outcome", `Nothing was changed: ${plain(problem.message)}.`);
      } else {
        text("outcome", `This may be done in part: ${plain(problem.message)}. ${LOOK}`);
      }
    } finally {
      button.removeAttribute("aria-disabled");
    }
  };
  by("retry-all").addEventListener("click", (event) => retry({ all: true }, event.currentTarget));

  // The stream. fetch and not EventSource: that cannot send the code, and does not say why it was refused.

  const SHOWN = { status: showStatus, review: showReview };
  const heard = (event) => {
    const [name, data] = event.split("\n").map((line) => line.slice(line.indexOf(": ") + 2));
    SHOWN[name]?.(JSON.parse(data));
    here();
  };
  const listen = async (signal) => {
    const path = "/v1/events";
    const headers = await authorization(await prove(signal), "GET", path, "");
    const answer = await fetch(path, { headers, signal, cache: "no-store" });
    if (!answer.ok) throw await Refusal.of(answer);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let gathered = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      gathered += value;
      const events = gathered.split("\n\n");
      gathered = events.pop();
      events.forEach(heard);
    }
  };

  let wait = FIRST_WAIT_MS;
  let awaySince = null;
  const here = () => {
    awaySince = null;
    show("away", false);
    document.body.classList.remove("away");
  };
  const away = (problem) => {
    stopTicking();
    awaySince ??= new Date();
    const since = `since ${when(awaySince)}`;
    let said = `The daemon does not answer ${since}.`;
    if (problem instanceof Refusal) said = `What happens cannot be shown ${since}: ${plain(problem.message)}.`;
    if (problem instanceof Impostor) {
      said = `${problem.message}, ${since}. Do not enter the code here.`;
      answered(false);
    }
    text("away", `${said} Below is what was so before. It is asked again by itself.`);
    show("away", true);
    document.body.classList.add("away");
    speak(said);
  };
  const looksAgain = (signal) => new Promise((resolve) => {
    document.addEventListener("visibilitychange", resolve, { once: true, signal });
  });
  const follow = async () => {
    for (;;) {
      while (document.hidden) await looksAgain();
      const looking = new AbortController();
      const hide = () => { if (document.hidden) { stopTicking(); looking.abort(); } };
      document.addEventListener("visibilitychange", hide);
      const began = performance.now();
      let problem = null;
      try { await listen(looking.signal); } catch (caught) { problem = caught; }
      document.removeEventListener("visibilitychange", hide);
      if (looking.signal.aborted) continue;
      if (problem?.code === "wrong_code") {
        let why = "That was not the right code.";
        if (code === null) {
          // Perhaps it is asked for already, for another reason.
          why = by("entry").hidden ? "This device shows its records to those who know the code." : by("why-code").textContent;
        }
        forgetCode();
        text("sentence", "The code is needed to show what happens.");
        await new Promise((resolve) => { ask(why, resolve, false); });
        continue;
      }
      away(problem);
      if (performance.now() - began >= LASTED_MS) wait = FIRST_WAIT_MS;
      const waited = new AbortController();
      await Promise.race([looksAgain(waited.signal), new Promise((resolve) => { setTimeout(resolve, wait); })]);
      waited.abort();
      wait = Math.min(wait * 2, LONGEST_WAIT_MS);
    }
  };

  addEventListener("hashchange", codeFromAddress);
  codeFromAddress();
  show("forget", code !== null);
  follow();
})();
