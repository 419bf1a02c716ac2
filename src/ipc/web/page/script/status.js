// The state of the device: a symbol, what goes on and why, what to do, and when it is tried again.

// Screen readers get the sentence at most this often.
const SPEECH_INTERVAL_MS = 10000;
const SECOND_MS = 1000;

// Each reason has one of four tones. Reasons of newer daemons wait.
const TONES = { nothing_to_send: "well", sending: "working", awaiting_response: "working" };
for (const reason of [
  "needs_review", "held", "paused", "auth_required", "no_server", "misconfigured", "disk_full", "disk_failing", "clock_wrong",
  "tls", "proxy", "login_page", "name_unknown", "refused",
]) TONES[reason] = "stuck";
// In the title of the window there is no colour.
const SIGNS = { well: "✓", working: "↑", waiting: "…", stuck: "!" };
// What ends a wait.
const WAITING_PHASES = ["waiting", "offline", "deferred", "auth_required", "misconfigured"];

let toSpeakAt = -SPEECH_INTERVAL_MS;
let toSpeak = null;
let spoken = "";
const speak = (sentence) => {
  const isScheduled = toSpeak !== null;
  toSpeak = sentence === spoken ? null : sentence;
  if (isScheduled || toSpeak === null) return;
  setTimeout(() => {
    if (toSpeak !== null) {
      toSpeakAt = performance.now();
      spoken = toSpeak;
      element("spoken").textContent = toSpeak;
    }
    toSpeak = null;
  }, Math.max(0, toSpeakAt + SPEECH_INTERVAL_MS - performance.now()));
};

const waitingCount = ({ records }) => records.pending + records.syncing + records.failed;
const hint = (name, isButton) => find("hints", `${name}.${isButton ? "button" : "command"}`);
// The text of the reason and its cause, in a group of texts.
const sayReason = (group, { sync, page: { situation } }, values) => (
  find(group, `${sync.reason}.${situation.variant}`, values) ?? find(group, sync.reason, values)
);
const describe = (status) => {
  const { sync, page: { situation } } = status;
  const response = situation.http_status >= 300 ? say("response", { status: situation.http_status }) : "";
  const reviews = sync.needs_review > 0 ? plural("reviews", sync.needs_review) : "";
  const values = {
    ...situation,
    response,
    waiting: plural("waiting", waitingCount(status)) + reviews,
    reviews,
    need_review: plural("need_review", sync.needs_review),
    all_synced: plural("all_synced", sync.total),
    some_synced: plural("some_synced", sync.total, { done: situation.synced }),
    syncing: plural("syncing", sync.total, { done: sync.done }),
    now: formatDay(new Date()),
    user: situation.paused_by,
    until: situation.paused_until === null ? "" : formatTime(situation.paused_until),
  };
  // A reason of a newer daemon has only the daemon's own words.
  const sentence = sayReason("situations", status, values) ?? stripControls(sync.text);
  const denied = (sync.denied ?? []).reduce((sum, set) => sum + set.records, 0);
  if (denied === 0) return sentence;
  const deniedStatus = sync.denied[0].error.http_status;
  return `${sentence}${sentence.endsWith(".") ? "" : "."} ${plural("denied", denied, {
    response: deniedStatus === null ? "" : say("response", { status: deniedStatus }),
  })}`;
};
const describeRemedy = (status) => {
  const { sync, page: { may_change: isButton, situation } } = status;
  if (sync.remedy === null) return "";
  const values = {
    try_now: hint("try_now", isButton),
    send_anyway: hint("send_anyway", isButton),
    continue: hint("continue", isButton),
    review: hint("review", isButton),
    config: situation.config_path,
    url: situation.url,
  };
  if (situation.asks_for_review) return values.review;
  return sayReason("remedies", status, values) ?? stripControls(sync.remedy);
};
const describeTiming = ({ sync, page: { situation } }) => {
  const seconds = (time) => Math.ceil((new Date(time).getTime() - Date.now()) / SECOND_MS);
  if (sync.reason === "awaiting_response" && situation.sent_at !== null) {
    const waited = Math.max(0, -seconds(situation.sent_at));
    return say("awaited", { time: formatDuration(waited), limit: formatDuration(situation.limit_s) });
  }
  const since = sync.since === null ? "" : say("since", { time: formatTime(sync.since) });
  const isWaiting = sync.next_attempt_at !== null && WAITING_PHASES.includes(sync.phase);
  const next = isWaiting ? say("next_try", { time: formatDuration(Math.max(0, seconds(sync.next_attempt_at))) }) : "";
  return [since, next].filter(Boolean).join(" ");
};

const showTone = (tone) => {
  document.body.dataset.tone = tone;
  const symbol = element("symbol");
  symbol.removeAttribute("hidden");
  symbol.setAttribute("aria-label", find("tones", tone));
};

// While something is awaited, the seconds are counted.
let ticking = null;
const stopTicking = () => { clearInterval(ticking); ticking = null; };
const showTiming = (status) => {
  const timing = describeTiming(status);
  text("timing", timing);
  show("timing", timing !== "");
};

let lastStatus = null;
const showStatus = (status) => {
  lastStatus = status;
  const { sync, connectivity, page: details } = status;
  const tone = TONES[sync.reason] ?? "waiting";
  const sentence = describe(status);
  const device = stripControls(status.device_name);
  ({ may_change: mayChange, needs_code: needsCode } = details);
  showKeys();
  showTone(tone);
  text("device", device);
  text("sentence", sentence);
  document.title = `${SIGNS[tone]} ${sentence} · ${device}`;
  const remedy = describeRemedy(status);
  text("remedy", remedy);
  show("to-do", remedy !== "");
  speak(remedy === "" ? sentence : `${sentence} ${remedy}`);
  stopTicking();
  showTiming(status);
  if (!element("timing").hidden) ticking = setInterval(showTiming, SECOND_MS, status);
  showActions(status);
  // The only count of the run is in the sentence. While records wait for something else, it has no bar.
  show("run", tone === "working" && sync.total > 0);
  element("bar").max = Math.max(1, sync.total);
  element("bar").value = sync.done;
  show("left", sync.eta_s !== null);
  text("left", sync.eta_s === null ? "" : say("left", { time: formatDuration(sync.eta_s) }));
  // One batch at a time is what people expect.
  const batches = sync.batches.length;
  show("batches", batches > 1);
  text("batches", plural("batches", batches));
  text("last-sent", sync.last_success_at === null ? say("never_sent") : say("last_sent", { time: formatTime(sync.last_success_at) }));
  text("link", say(connectivity.metered ? "metered_link" : "link", {
    state: find("links", connectivity.state) ?? connectivity.state,
    time: formatTime(connectivity.since),
  }));
  showAlerts(status);
  showCounts();
};

// Buttons are there only if the daemon takes a code.
const showActions = ({ sync, page: { may_change: isButton } }) => {
  const focus = document.activeElement;
  const mayContinue = isButton && sync.phase === "paused";
  const mayTry = isButton && WAITING_PHASES.includes(sync.phase) && sync.reason !== "no_server";
  show("continue", mayContinue);
  show("try-now", mayTry);
  show("actions", mayContinue || mayTry);
  if (["continue", "try-now"].includes(focus?.id) && focus.hidden) element("needs-title").focus();
};

// The records that need review are listed themselves.
const shownAlerts = ({ alerts }) => alerts.filter(({ alert }) => alert !== "needs_review");
const describeAlert = ({ alert, message, since }, { queue }) => {
  const share = (used, most) => (most > 0 ? used / most : 0);
  const percent = Math.max(
    share(queue.records, queue.max_records),
    share(queue.bytes, queue.max_bytes),
    share(queue.disk_bytes, queue.max_disk_bytes),
  );
  const waited = queue.oldest_pending_at === null ? 0 : (Date.now() - new Date(queue.oldest_pending_at).getTime()) / SECOND_MS;
  const known = find("alerts", alert, {
    details: message,
    percent: new Intl.NumberFormat(locale, { style: "percent" }).format(percent),
    time: formatDuration(waited),
  });
  return say("alert", { message: known ?? message, time: formatTime(since) });
};
const showAlerts = (status) => {
  const lines = shownAlerts(status).map((alert) => describeAlert(alert, status));
  const shown = [...element("alerts").children].map((item) => item.textContent);
  if (JSON.stringify(lines) === JSON.stringify(shown)) return;
  element("alerts").replaceChildren(...lines.map((line) => {
    const item = document.createElement("li");
    item.textContent = line;
    return item;
  }));
};

