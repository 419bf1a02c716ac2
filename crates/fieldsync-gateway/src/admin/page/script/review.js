
// The refused records, and what can be done with them. Rows that stay are not moved, so that they keep the focus.

const REFUSED_ROWS = 100;

const rows = new Map();
let refusedNext = null;

const nameRecord = (record) => [record.type, record.key].filter((part) => part !== null).map(replaceHidden).join(" ");
const describeReason = (record) => {
  const field = record.field === null ? "" : ` at ${record.field}`;
  const message = record.message === null ? "" : `: ${record.message}`;
  return replaceHidden(`${record.code ?? "refused"}${field}${message}`);
};
const newRow = (id) => {
  const row = cloneTemplate("record");
  rows.set(id, row);
  row.querySelector(".retry").addEventListener("click", () => run(() => review("retry", { ids: [id] })));
  row.querySelector(".edit").addEventListener("click", () => run(() => openEditor(id)));
  row.querySelector(".discard").addEventListener("click", () => askToDiscard(id));
  return row;
};
const fillRow = (row, record) => {
  row.record = record;
  setText(row.querySelector(".type"), replaceHidden(record.type));
  setText(row.querySelector(".key"), replaceHidden(record.key ?? ""));
  setTime(row.querySelector("time"), record.refused_at, (time) => `refused ${describeAge(time)}`);
  setText(row.querySelector(".why"), describeReason(record));
  const device = deviceNames.get(record.device_id) ?? record.device_id;
  setText(row.querySelector(".facts"), `Sent ${plural(record.attempts, "time", "times")}, from ${replaceHidden(device)}, id ${record.id}`);
  for (const [name, verb] of [["retry", "Send again"], ["edit", "Edit"], ["discard", "Discard"]]) {
    row.querySelector(`.${name}`).setAttribute("aria-label", `${verb}: ${nameRecord(record)}, id ending in ${record.id.slice(-4)}`);
  }
};
const showRecords = (records, isFirst) => {
  const list = element("records");
  const focused = [...list.children].findIndex((row) => row.contains(document.activeElement));
  const ids = new Set(records.map((record) => record.id));
  for (const [id, row] of rows) {
    if (isFirst && !ids.has(id)) {
      row.remove();
      rows.delete(id);
    }
  }
  let before = isFirst ? list.firstElementChild : null;
  for (const record of records) {
    const row = rows.get(record.id) ?? newRow(record.id);
    fillRow(row, record);
    if (row === before) before = before.nextElementSibling; else list.insertBefore(row, before);
  }
  // If the record with the focus is gone, the focus moves to the record in its place, or to the heading.
  if (focused >= 0 && !list.contains(document.activeElement)) {
    const next = list.children[Math.min(focused, list.children.length - 1)];
    (next?.querySelector(".retry") ?? element("refused-title")).focus();
  }
  const isEmpty = list.childElementCount === 0;
  if (isEmpty && document.activeElement === element("retry-all")) element("refused-title").focus();
  show("no-refused", isEmpty);
  show("for-all", !isEmpty);
  show("more-refused", refusedNext !== null);
  text("refused-count", isEmpty ? "" : `${number.format(list.childElementCount)}${refusedNext === null ? "" : "+"}`);
};
const fetchRefused = async (after, limit) => {
  const query = new URLSearchParams({ limit });
  if (after !== null) query.set("after", after);
  const page = await callJson(`refused?${query}`);
  refusedNext = page.next;
  return page.records;
};
const refreshRefused = async () => {
  showRecords(await fetchRefused(null, Math.min(1000, Math.max(REFUSED_ROWS, rows.size))), true);
};
element("more-refused").addEventListener("click", () => run(async () => {
  showRecords(await fetchRefused(refusedNext, REFUSED_ROWS), false);
  if (element("more-refused").hidden) element("refused-title").focus();
}));

const review = async (decision, selection) => {
  const { changed } = await callJson(`refused/${decision}`, { method: "POST", body: JSON.stringify(selection) });
  say(`${plural(changed, "record", "records")} ${decision === "retry" ? "sent again" : "discarded"}.`);
  await refreshRefused();
};
element("retry-all").addEventListener("click", () => run(() => review("retry", { all: true })));

const askToDiscard = (id) => {
  const dialog = element("discard");
  text("discard-record", `${nameRecord(rows.get(id).record)}, id ${id}`);
  dialog.returnValue = "";
  dialog.onclose = () => {
    if (dialog.returnValue === "discard") run(() => review("discard", { ids: [id] }));
  };
  dialog.showModal();
  element("keep").focus();
};

let editedId = null;
const openEditor = async (id) => {
  const record = rows.get(id)?.record;
  // It was decided on meanwhile.
  if (record === undefined) return;
  const payload = await (await call(`refused/${id}/payload`)).text();
  editedId = id;
  text("edit-record", `${nameRecord(record)}: ${describeReason(record)}`);
  text("edit-fault", "");
  element("payload").value = escapeHidden(payload);
  element("edit").showModal();
  element("payload").focus();
};
// What is wrong with it, for people; null if nothing is.
const findPayloadFault = (json) => {
  let value;
  try { value = JSON.parse(json); } catch (error) { return `This is not JSON: ${error.message}`; }
  return value === null || typeof value !== "object" || Array.isArray(value) ? "The payload must be a JSON object." : null;
};
element("edit-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const payload = element("payload").value.trim();
  const fault = findPayloadFault(payload);
  text("edit-fault", fault ?? "");
  if (fault !== null) {
    element("payload").focus();
    return;
  }
  run(async () => {
    try {
      await call(`refused/${editedId}/payload`, { method: "PUT", body: payload });
    } catch (error) {
      // The text is not lost.
      text("edit-fault", error.message);
      if (error.status === 401) closeDialogs();
      throw error;
    }
    element("edit").close();
    say("1 record sent again.");
    await refreshRefused();
  });
});
element("edit-cancel").addEventListener("click", () => element("edit").close());
