// Shows the devices and the refused records, and reviews records. All content is untrusted, so it is inserted as text.
// Nothing runs while the page is hidden.
//
// This part: texts, times and numbers, and how they get into the page.

const element = (id) => document.getElementById(id);
const setText = (node, value) => {
  if (node.textContent !== value) node.textContent = value;
};
const text = (id, value) => setText(element(id), value);
const show = (id, shown) => { element(id).hidden = !shown; };
// Characters without width, and those that change the direction of text.
const HIDDEN = /[\p{Cc}\u00AD\u061C\u115F\u1160\u180E\u200B-\u200F\u2028-\u202E\u2060-\u206F\u3164\uFEFF\uFFA0\uFFF9-\uFFFB]/gu;
const replaceHidden = (untrusted) => String(untrusted).replace(HIDDEN, "\uFFFD");
// JSON with the same values. White space between its parts stays.
const escapeHidden = (json) => json.replace(HIDDEN, (character) => (
  "\t\n\r".includes(character) ? character : `\\u${character.codePointAt(0).toString(16).padStart(4, "0")}`
));

const number = new Intl.NumberFormat();
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const plural = (n, one, many) => `${number.format(n)} ${n === 1 ? one : many}`;
const describeSpan = (milliseconds) => {
  const minutes = Math.max(0, Math.round(milliseconds / 60_000));
  if (minutes < 2) return "1 min";
  if (minutes < 120) return `${minutes} min`;
  return minutes < 2 * 24 * 60 ? `${Math.round(minutes / 60)} h` : plural(Math.round(minutes / 1440), "day", "days");
};
// By the clock of the gateway: that of this computer may differ.
let clockOffset = 0;
const describeAge = (time) => {
  const age = Date.now() + clockOffset - Date.parse(time);
  return age < 60_000 ? "just now" : `${describeSpan(age)} ago`;
};
const setTime = (node, time, describe) => {
  node.dateTime = time;
  node.title = moment.format(new Date(time));
  setText(node, describe(time));
};
const describeBytes = (bytes) => {
  const step = Math.min(Math.floor(Math.log10(Math.max(bytes, 1)) / 3), 4);
  const value = bytes / 1000 ** step;
  return `${number.format(value < 10 ? Math.round(value * 10) / 10 : Math.round(value))} ${["B", "kB", "MB", "GB", "TB"][step]}`;
};
const cloneTemplate = (id) => element(id).content.firstElementChild.cloneNode(true);
