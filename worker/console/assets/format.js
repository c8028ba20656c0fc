// Texts of the catalogue; numbers, ages and times for people, in the page's language and time zone.

export const boot = JSON.parse(document.getElementById("boot").textContent);

const chinese = boot.lang === "zh";
const locale = chinese ? "zh-CN" : "en-GB";
const none = "–";
const whole = new Intl.NumberFormat(locale, { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat(locale, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

// known is false for null, undefined and NaN: numbers that nobody knows.
const known = (n) => typeof n === "number" && !Number.isNaN(n);

export const count = (n) => (known(n) ? whole.format(n) : none);
export const short = (n) => (known(n) ? compact.format(n) : none);
export const rate = (n) => (!known(n) ? none : n > 0 && n < 9.95 ? tenths.format(n) : whole.format(n));

// age formats seconds: 30 ms, 0.3 s, 12 s, 5 min, 3 h, 2 d.
export function age(s) {
  if (!known(s)) return none;
  if (s > 0 && s < 0.0995) return `${Math.max(1, Math.round(s * 1000))} ${text("ui.unit.ms")}`;
  for (const [unit, size, limit] of [["s", 1, 100], ["min", 60, 6000], ["h", 3600, 172800]]) {
    if (s < limit) {
      const n = s / size;
      const rounded = n < 1 ? Number(n.toPrecision(2)) : n < 10 ? Math.round(n * 10) / 10 : Math.round(n);
      return `${rounded} ${text(`ui.unit.${unit}`)}`;
    }
  }
  return `${whole.format(Math.round(s / 86400))} ${text("ui.unit.d")}`;
}

// The zone is the browser's or UTC. A browser may refuse storage: then the choice lasts for the page.
let utc = false;
try {
  utc = localStorage.getItem("markread-zone") === "UTC";
} catch { /* storage is refused */ }

export function toggleZone() {
  utc = !utc;
  clocks = makeClocks();
  try {
    localStorage.setItem("markread-zone", utc ? "UTC" : "");
  } catch { /* storage is refused */ }
}

const makeClocks = () => {
  const zone = utc ? { timeZone: "UTC" } : {};
  const time = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
  const day = chinese ? { month: "numeric", day: "numeric" } : { month: "short", day: "numeric" };
  const make = (options) => new Intl.DateTimeFormat(locale, { ...options, ...zone });
  return {
    day: make({ year: "numeric", ...day }), time: make(time), short: make({ ...day, ...time }),
    long: make({ year: "numeric", ...day, ...time }),
    minute: make({ hour: "2-digit", minute: "2-digit", hourCycle: "h23" }),
  };
};
let clocks = makeClocks();

// toDate returns null for a time that is absent: Go's zero time has the year 1.
function toDate(when) {
  const d = when instanceof Date ? when : new Date(typeof when === "number" ? when * 1000 : when ?? NaN);
  return d.getUTCFullYear() > 1 ? d : null;
}

// zoneOf returns the offset of the zone at a time: UTC+08:00.
export function zoneOf(when = new Date()) {
  const minutes = utc ? 0 : -(toDate(when) ?? new Date()).getTimezoneOffset();
  if (minutes === 0) return "UTC";
  const two = (n) => String(n).padStart(2, "0");
  const m = Math.abs(minutes);
  return `UTC${minutes < 0 ? "−" : "+"}${two(Math.floor(m / 60))}:${two(m % 60)}`;
}

// clock formats an RFC 3339 text, a Date or Unix seconds; with the day unless it is today.
export function clock(when) {
  const d = toDate(when);
  if (!d) return none;
  const [then, today] = [clocks.day.format(d), clocks.day.format(new Date())];
  if (then === today) return clocks.time.format(d);
  return (then.includes(String(new Date().getFullYear())) ? clocks.short : clocks.long).format(d);
}

export const minute = (seconds) => clocks.minute.format(new Date(seconds * 1000));
export const clockWithZone = (when) => (toDate(when) ? `${clock(when)} ${zoneOf(when)}` : none);

// wallClock returns a Date whose local fields show the page's zone: uPlot places its ticks by them.
export function wallClock(seconds) {
  const d = new Date(seconds * 1000);
  return utc ? new Date(d.getTime() + d.getTimezoneOffset() * 60000) : d;
}

// ago formats how long before now (the server's clock) a time is.
export function ago(when, now) {
  const [d, n] = [toDate(when), toDate(now)];
  return d && n ? age(Math.max(0, (n - d) / 1000)) : none;
}

const formats = {
  text: String, count, rate, seconds: age, time: clockWithZone,
  key: (v) => text(v) || text(`hold.${v}`) || String(v),
  percent: (n) => (known(n) ? `${Math.round(n * 100)} %` : none),
};

// text returns a text of the catalogue; "" if there is none.
export const text = (key) => (Object.hasOwn(boot.texts, key) ? boot.texts[key] : "");

// t returns the text of a key with its placeholders {name:format} filled in; a key that the catalogue
// lacks is shown itself, so that the reader misses no fact.
export function t(key, params = {}) {
  return (text(key) || key).replace(/\{(\w+)(?::(\w+))?\}/g, (_, name, format = "text") => {
    const value = params?.[name];
    return value === null || value === undefined ? none
      : (Object.hasOwn(formats, format) ? formats[format] : String)(value);
  });
}

// word returns the text of a word of the contract, and the word itself if the catalogue lacks it.
export const word = (kind, value) => text(`${kind}.${value}`) || String(value ?? "");
