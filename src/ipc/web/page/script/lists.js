// The three lists: what needs a person, what waits, what was sent today.

const lists = { review: null, waiting: null, sent: null };
const isReadable = (list) => list !== null && list.unreadable !== true;

const fillLine = (line, record, time) => {
  setText(line.querySelector(".type"), stripControls(record.type));
  setText(line.querySelector(".key"), stripControls(record.key ?? ""));
  const node = line.querySelector("time");
  node.dateTime = time;
  setText(node, formatTime(time));
};

// The counts are those of the status, so that all numbers on the page agree.
const showCounts = () => {
  if (lastStatus === null) return;
  show("lists", true);
  const { records: counts, sync } = lastStatus;
  const reviews = lists.review?.records ?? [];
  const alerts = shownAlerts(lastStatus).length;
  const needs = counts.quarantined + alerts;
  text("needs-count", number.format(needs));
  const isStuck = needs === 0 && TONES[sync.reason] === "stuck";
  show("see-above", isStuck);
  show("none", needs === 0 && !isStuck && isReadable(lists.review));
  showMore(element("needs-more"), counts.quarantined - reviews.length);
  const waiting = waitingCount(lastStatus);
  text("waiting-count", number.format(waiting));
  showRest("waiting", waiting);
  if (lists.sent === null) return;
  const count = lists.sent.count ?? 0;
  text("sent-count", isReadable(lists.sent) ? `${number.format(count)}${lists.sent.is_partial ? "+" : ""}` : "");
  showRest("sent", count, lists.sent.is_partial);
};
const showMore = (node, rest, isPartial = false) => {
  setText(node, rest > 0 ? plural(isPartial ? "more_than" : "more", rest) : "");
  node.hidden = !(rest > 0);
};
const showRest = (name, count, isPartial) => {
  const section = element(name);
  section.querySelector(".none").hidden = count > 0 || !isReadable(lists[name]);
  section.querySelector(".unreadable").hidden = lists[name] === null || isReadable(lists[name]);
  showMore(section.querySelector(".more"), count - section.querySelector("ul").childElementCount, isPartial);
};

const showLines = (name, list, timeOf, noteOf) => {
  lists[name] = list;
  if (isReadable(list)) {
    element(name).querySelector("ul").replaceChildren(...list.records.map((record) => {
      const line = element("line").content.firstElementChild.cloneNode(true);
      fillLine(line, record, timeOf(record));
      setText(line.querySelector(".note"), noteOf(record) ?? "");
      return line;
    }));
  }
  showCounts();
};
const describeWait = ({ state, is_held: isHeld }) => {
  if (isHeld) return find("notes", "held");
  return find("notes", state.toLowerCase());
};
const showWaiting = (list) => showLines("waiting", list, (record) => record.created_at, describeWait);
const showSent = (list) => showLines("sent", list, (record) => record.sent_at, () => "");

// Records that need review. Rows that stay are not moved, so that they keep the focus.

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
  const error = record.last_error;
  fillLine(row, record, record.created_at);
  setText(row.querySelector(".why"), find("reviews", error?.class ?? "other") ?? find("reviews", "other"));
  const fault = [error?.code, error?.field && say("field", { field: error.field })].filter(Boolean).join(" ");
  setText(row.querySelector(".said"), [fault, error?.message].filter(Boolean).map(stripControls).join(": "));
  const facts = say("review_facts", { sent: plural("sent_times", record.attempts), time: formatTime(record.since) });
  setText(row.querySelector(".facts"), record.holds > 0 ? `${facts} ${plural("blocks", record.holds)}` : facts);
  setText(row.querySelector(".id"), say("id", { id: record.id }));
  const button = row.querySelector("button");
  button.hidden = !mayRetry;
  button.setAttribute("aria-label", say("retry_label", { type: record.type, end: record.id.slice(-4) }));
};
const showReview = (review) => {
  const isUnreadable = review.unreadable === true;
  element("needs").querySelector(".unreadable").hidden = !isUnreadable;
  // The list as it was shown before may still be right.
  lists.review = isUnreadable ? { ...lists.review, unreadable: true } : review;
  if (!isUnreadable) showRows(review);
  showCounts();
};
const showRows = (review) => {
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
    (list.contains(focus) ? focus : next?.querySelector("button") ?? element("needs-title")).focus();
  }
  const some = review.records.length > 0;
  if (!some && document.activeElement === element("retry-all")) element("needs-title").focus();
  show("only-shows", some && !review.retry);
  show("for-all", some && review.retry);
};

