// Shows the events of /v1/events, and changes something with the access code. All content is untrusted, so it is inserted as
// text. Nothing runs while the page is hidden.
//
// This part: the texts in the language of the page, and how they get into it.

const element = (id) => document.getElementById(id);
const setText = (node, value) => {
  if (node.textContent !== value) node.textContent = value;
};
const text = (id, value) => setText(element(id), value);
const show = (id, shown) => { element(id).hidden = !shown; };
const parseJson = (json) => { try { return JSON.parse(json); } catch { return null; } };
// Removes control characters and changes of text direction from untrusted text.
const stripControls = (untrusted) => String(untrusted).replace(/[\p{Cc}\u061C\u200E\u200F\u202A-\u202E\u2066-\u2069]/gu, "\uFFFD");

const TEXTS = JSON.parse(element("texts").textContent);
const { language, locale } = TEXTS;
const fill = (template, values) => template.replace(/\{(\w+)\}/g, (_, name) => stripControls(values[name] ?? ""));
// A text of a group, with its placeholders filled in; undefined if there is none.
const find = (group, key, values = {}) => (Object.hasOwn(TEXTS[group], key) ? fill(TEXTS[group][key], values) : undefined);
const say = (key, values) => find("messages", key, values);

const number = new Intl.NumberFormat(locale);
const pluralRules = new Intl.PluralRules(language);
const plural = (key, n, values = {}) => {
  const forms = TEXTS.plurals[key];
  const numbers = Object.fromEntries(Object.entries(values).map(([name, value]) => [name, typeof value === "number" ? number.format(value) : value]));
  return fill(forms[pluralRules.select(n)] ?? forms.other, { n: number.format(n), ...numbers });
};

const day = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short", year: "numeric" });
const hour = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
// The time of today, or with the day.
const formatTime = (time) => {
  const at = new Date(time);
  return day.format(at) === day.format(new Date()) ? hour.format(at) : formatDay(at);
};
const formatDay = (at) => `${day.format(at)}, ${hour.format(at)}`;
const UNITS = Object.fromEntries(["second", "minute", "hour"].map((unit) => (
  [unit, new Intl.NumberFormat(locale, { style: "unit", unit, unitDisplay: "short" })]
)));
const formatDuration = (seconds) => {
  if (seconds < 60) return UNITS.second.format(seconds);
  return seconds < 5400 ? UNITS.minute.format(Math.round(seconds / 60)) : UNITS.hour.format(Math.round(seconds / 3600));
};
// As a Date's, for today.
const startOfDay = () => new Date().setHours(0, 0, 0, 0);

