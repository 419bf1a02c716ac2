
// The devices: those without contact for the longest time first, so that the overdue ones are at the top.

const DEVICE_ROWS = 100;
const DEVICES_SHOWN_MAX = 5000;

// Ids to names, for the records.
const deviceNames = new Map();
let devicesNext = null;

const describeCondition = (device) => {
  const offset = device.clock_offset_ms;
  return [
    device.version && `version ${device.version}`,
    device.interface,
    device.battery_percent !== null && `battery ${device.battery_percent} %`,
    device.queue_bytes !== null && `queue ${describeBytes(device.queue_bytes)}`,
    offset !== null && Math.abs(offset) >= 60_000 && `clock ${describeSpan(Math.abs(offset))} ${offset > 0 ? "ahead" : "behind"}`,
  ].filter(Boolean).map(replaceHidden).join(", ");
};
const setCount = (node, count) => {
  setText(node, count === null ? "not reported" : number.format(count));
  node.dataset.some = count > 0;
};
const deviceRow = (device) => {
  const row = cloneTemplate("device");
  const find = (name) => row.querySelector(`.${name}`);
  row.dataset.device = device.device_id;
  row.dataset.overdue = device.overdue;
  setText(find("name"), replaceHidden(device.name ?? ""));
  setText(find("id"), device.device_id);
  setText(find("state"), device.overdue ? "⚠ Overdue" : "In contact");
  setTime(find("contact"), device.last_contact_at, describeAge);
  setText(find("since"), device.overdue ? `overdue since ${moment.format(new Date(device.overdue_since))}` : "");
  setCount(find("unsent"), device.unsent);
  find("unsent").dataset.some = false;
  setText(find("oldest"), device.unsent > 0 && device.oldest_unsent_at ? `oldest from ${describeAge(device.oldest_unsent_at)}` : "");
  setCount(find("review"), device.under_review);
  setText(find("alerts"), device.alerts.map((name) => replaceHidden(name).replaceAll("_", " ")).join(", ") || "none");
  find("alerts").dataset.some = device.alerts.length > 0;
  if (device.last_status_at === null) setText(find("alerts"), "not reported");
  setText(find("condition"), describeCondition(device) || "not reported");
  return row;
};
const fetchDevices = (after, limit) => {
  const query = new URLSearchParams({ limit, overdue: element("only-overdue").checked });
  if (after !== null) query.set("after", after);
  return callJson(`devices?${query}`);
};
const showDevicePage = (page, isFirst) => {
  const body = element("device-table").tBodies[0];
  for (const device of page.devices) deviceNames.set(device.device_id, device.name);
  if (isFirst) body.replaceChildren();
  // A device that was in contact meanwhile is in a later page again.
  const shown = new Map(Array.from(body.rows, (row) => [row.dataset.device, row]));
  for (const device of page.devices) {
    const row = deviceRow(device);
    shown.get(device.device_id)?.remove();
    shown.set(device.device_id, row);
    body.append(row);
  }
  devicesNext = page.next;
  const { known, overdue } = page.counts;
  text("device-counts", `${plural(known, "device", "devices")}, ${number.format(overdue)} overdue`);
  const isEmpty = body.rows.length === 0;
  show("device-table", !isEmpty);
  show("no-devices", isEmpty);
  text("no-devices", known > 0 ? "No device is overdue." : "No device was in contact yet.");
  const isFull = body.rows.length >= DEVICES_SHOWN_MAX;
  show("more-devices", devicesNext !== null && !isFull);
  show("devices-left", devicesNext !== null && isFull);
};
// As many as are shown now, so that a refresh hides nothing.
const refreshDevices = async () => {
  const wanted = Math.max(DEVICE_ROWS, element("device-table").tBodies[0].rows.length);
  const page = await fetchDevices(null, Math.min(wanted, 1000));
  while (page.next !== null && page.devices.length < wanted) {
    const more = await fetchDevices(page.next, Math.min(wanted - page.devices.length, 1000));
    page.devices.push(...more.devices);
    page.next = more.next;
  }
  showDevicePage(page, true);
};
element("only-overdue").addEventListener("change", () => run(async () => {
  showDevicePage(await fetchDevices(null, DEVICE_ROWS), true);
}));
element("more-devices").addEventListener("click", () => run(async () => {
  const first = element("device-table").tBodies[0].rows.length;
  showDevicePage(await fetchDevices(devicesNext, DEVICE_ROWS), false);
  say(`${plural(element("device-table").tBodies[0].rows.length - first, "more device is", "more devices are")} shown.`);
  if (element("more-devices").hidden) element("devices-title").focus();
}));
