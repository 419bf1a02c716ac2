"use strict";
// Shows what /v1/events says, and sends records again with the code. Whatever it shows was written by
// others: it is put in as text. Nothing runs while nobody looks.
(() => {
  // The first wait before the daemon is asked again, and the longest.
  const FIRST_WAIT_MS = 1000;
  const LONGEST_WAIT_MS = 8000;
  // The sentence is spoken at most this often.
  const SPOKEN_EVERY_MS = 10000;
  const CHANGE_LIMIT_MS = 20000;
  const CODE = "fieldsync-code";

  const by = (id) => document.getElementById(id);
  const text = (id, value) => {
    const node = by(id);
    if (node.textContent !== value) node.textContent = value;
  };
  const show = (id, shown) => { by(id).hidden = !shown; };
  // Foreign text, without what would command its surroundings: neither control characters nor changes of direction.
  const plain = (foreign) => foreign.replace(/[\p{Cc}\u202A-\u202E\u2066-\u2069]/gu, "\uFFFD");
  const records = (n) => (n === 1 ? "1 record" : `${n} records`);

  const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
  const hour = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
  const when = (time) => {
    const at = new Date(time);
    return day.format(at) === day.format(new Date()) ? hour.format(at) : `${day.format(at)}, ${hour.format(at)}`;
  };

  // The code, for as long as this page is open.

  let code = null;
  try { code = sessionStorage.getItem(CODE); } catch { /* It is then kept here alone. */ }
  const keepCode = (value) => {
    code = value;
    try {
      if (value) sessionStorage.setItem(CODE, value); else sessionStorage.removeItem(CODE);
    } catch { /* As above. */ }
    show("forget", value !== null);
  };
  const codeFromAddress = () => {
    if (!location.hash.startsWith("#token=")) return;
    const given = location.hash.slice("#token=".length);
    history.replaceState(null, "", location.pathname);
    try { keepCode(decodeURIComponent(given)); } catch { keepCode(given); }
  };
  const authorization = () => (code ? { Authorization: `Bearer ${code}` } : {});

  // What is to be done once there is a code, by whether that was given.
  let asked = null;
  const ask = (why, then) => {
    asked?.(false);
    asked = then;
    text("why-code", why);
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
    keepCode(by("code").value.trim());
    by("code").value = "";
    answered(true);
  });
  by("cancel").addEventListener("click", () => answered(false));
  by("forget").addEventListener("click", () => {
    keepCode(null);
    text("outcome", "The code is forgotten on this page.");
    by("review-title").focus();
  });

  class Refusal extends Error {
    static async of(answer) {
      const body = await answer.json().catch(() => null);
      const refusal = new Refusal(body?.error?.message ?? `the answer was ${answer.status}`);
      refusal.code = body?.error?.code;
      return refusal;
    }
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
    stopTicking();
    text("sentence", plain(sync.text));
    if (sync.phase === "waiting" && sync.next_attempt_at) {
      const until = new Date(sync.next_attempt_at).getTime();
      tick(sync.text, until);
      ticking = setInterval(tick, 1000, sync.text, until);
    }
    document.title = `${plain(sync.text)} · fieldsync`;
    speak(sync.text);
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
    const ids = new Set(review.records.map((record) => record.id));
    const list = by("records");
    const focused = [...list.children].findIndex((row) => row.contains(document.activeElement));
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
    // The focus is where its record was, or on the heading.
    if (focused >= 0 && !list.contains(document.activeElement)) {
      const next = list.children[Math.min(focused, list.children.length - 1)];
      (next?.querySelector("button") ?? by("review-title")).focus();
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
      const answer = await fetch("/v1/quarantine/retry", {
        method: "POST",
        headers: { "Content-Type": "application/json", ...authorization() },
        body: JSON.stringify(selection),
        signal: AbortSignal.timeout(CHANGE_LIMIT_MS),
      });
      if (!answer.ok) throw await Refusal.of(answer);
      const { changed } = await answer.json();
      text("outcome", `${records(changed)} queued again.`);
      if (button.isConnected) button.focus();
    } catch (problem) {
      if (problem.code === "wrong_code") {
        keepCode(null);
        ask("That was not the right code.", again);
      } else if (problem instanceof Refusal) {
        text("outcome", `Nothing was changed: ${plain(problem.message)}.`);
      } else {
        text("outcome", "The daemon did not answer. Look at the list: what is still there was not sent again.");
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
    const answer = await fetch("/v1/events", { headers: authorization(), signal, cache: "no-store" });
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
    wait = FIRST_WAIT_MS;
    awaySince = null;
    show("away", false);
    document.body.classList.remove("away");
  };
  const away = (problem) => {
    stopTicking();
    awaySince ??= new Date();
    const since = `since ${when(awaySince)}`;
    const said = problem instanceof Refusal
      ? `What happens cannot be shown ${since}: ${plain(problem.message)}.`
      : `The daemon does not answer ${since}.`;
    text("away", `${said} Below is what was so before. It is asked again by itself.`);
    show("away", true);
    document.body.classList.add("away");
    speak(said);
  };
  const looksAgain = () => new Promise((resolve) => {
    document.addEventListener("visibilitychange", resolve, { once: true });
  });
  const follow = async () => {
    for (;;) {
      while (document.hidden) await looksAgain();
      const looking = new AbortController();
      const hide = () => { if (document.hidden) { stopTicking(); looking.abort(); } };
      document.addEventListener("visibilitychange", hide);
      let problem = null;
      try { await listen(looking.signal); } catch (caught) { problem = caught; }
      document.removeEventListener("visibilitychange", hide);
      if (looking.signal.aborted) continue;
      if (problem?.code === "wrong_code") {
        const why = code === null ? "This device shows its records to those who know the code." : "That was not the right code.";
        keepCode(null);
        text("sentence", "The code is needed to show what happens.");
        await new Promise((resolve) => { ask(why, resolve); });
        continue;
      }
      away(problem);
      await Promise.race([looksAgain(), new Promise((resolve) => { setTimeout(resolve, wait); })]);
      wait = Math.min(wait * 2, LONGEST_WAIT_MS);
    }
  };

  addEventListener("hashchange", codeFromAddress);
  codeFromAddress();
  show("forget", code !== null);
  follow();
})();
