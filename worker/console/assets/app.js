// The page: its frame, the poll of the overview, and the view that the fragment names.
import { get, message } from "./api.js";
import { createConversation } from "./conversation.js";
import { createDeadLetters } from "./deadletters.js";
import { el, setClass, setHidden, setText } from "./dom.js";
import { boot, clock, count, t, toggleZone, zoneOf } from "./format.js";
import { createOverview } from "./overview.js";
import { createSettings } from "./settings.js";

const period = 2000;
const byId = (id) => document.getElementById(id);
const main = byId("main");
let latest = null;
let lastResponse = new Date();
let timer = 0;

const overview = createOverview((range) => {
  if (range !== history.range) Object.assign(history, { range, points: null });
  poll();
});
const views = { overview, conversation: createConversation(), settings: createSettings() };
if (boot.scope === "group") views["dead-letters"] = createDeadLetters();
let [shown, path] = [null, ""];

// The history that the plots show. A poll fetches only what is newer than the last point but one (the
// last may still have been growing); what has left the range is dropped.
const history = { range: "1h", points: null };

function merge(fresh) {
  const old = history.points;
  const length = (p) => Math.max(0, ...Object.values(p.series).map((s) => s.length));
  if (length(fresh) === 0) return;
  const step = fresh.step;
  const limit = Math.round((history.range === "1h" ? 3600 : 86400) / step);
  const from = old === null ? 0 : Math.round((fresh.first - old.first) / step);
  if (old === null || old.step !== step || from < 0 || from > length(old) + limit) {
    history.points = fresh;
    return;
  }
  const total = from + length(fresh);
  const drop = Math.max(0, total - limit);
  const series = {};
  for (const name of new Set([...Object.keys(old.series), ...Object.keys(fresh.series)])) {
    series[name] = Array.from({ length: total - drop }, (_, k) => {
      const i = k + drop;
      return (i >= from ? fresh.series[name]?.[i - from] : old.series[name]?.[i]) ?? null;
    });
  }
  history.points = { step, first: old.first + drop * step, series };
}

let polls = 0; // so that a response of an older poll is dropped

async function poll() {
  clearTimeout(timer);
  const mine = ++polls;
  const p = history.points;
  const after = p === null ? 0 : p.first + (Math.max(...Object.values(p.series).map((s) => s.length)) - 2) * p.step;
  try {
    const o = await get(`api/overview?range=${history.range}&after=${Math.max(0, after)}`);
    if (mine !== polls) return;
    if (!o?.sentence) throw new Error(t("ui.error.format"));
    merge(o.history ?? { step: 5, first: 0, series: {} });
    latest = o;
    lastResponse = new Date();
    setHidden(byId("stale"), true);
    show();
  } catch (e) {
    if (mine !== polls) return;
    setText(byId("stale"), t("ui.stale", { since: clock(lastResponse), message: message(e) }));
    setHidden(byId("stale"), false);
  }
  if (document.visibilityState === "visible") timer = setTimeout(poll, period);
}

function show() {
  const { sentence, dead_letters: d } = latest;
  setText(byId("now"), clock(latest.at));
  const mark = { bad: "✕ ", warn: "! " }[sentence.severity] ?? "";
  const said = mark ? t(`sentence.${sentence.key}`, sentence.params) : shown.title(); // a tab shows trouble
  const title = `${mark}${said} · ${boot.group} · markread`;
  if (document.title !== title) document.title = title;
  setClass(byId("state"), `dot ${sentence.severity}`);
  setText(byId("state"), t(`ui.severity.${sentence.severity}`));
  if (byId("worker")) setText(byId("worker"), latest.workers[0]?.name ?? "");
  if (byId("open")) setText(byId("open"), d?.open > 0 ? count(d.open) : "");
  shown.show(latest, history);
}

// fragment returns the parts of the URL's fragment: #dead-letters/0:17 is the view dead-letters with
// 0:17, and #dead-letters?class=invalid has a query. A malformed one names no view.
function fragment() {
  const [, path, query] = /^#?([^?]*)(.*)$/.exec(location.hash);
  try {
    const [name, ...rest] = decodeURIComponent(path).split("/");
    return { path, name, rest: rest.join("/"), query };
  } catch {
    return { path, name: "", rest: "", query };
  }
}

// route shows the view that the fragment names.
function route() {
  const { name, rest, query, ...at } = fragment();
  path = at.path;
  const key = Object.hasOwn(views, name) ? name : "overview";
  const changed = shown !== views[key];
  shown = views[key];
  if (changed) main.replaceChildren(shown.node);
  for (const a of document.querySelectorAll("nav a")) {
    if (a.hash === `#${key}`) a.setAttribute("aria-current", "page");
    else a.removeAttribute("aria-current");
  }
  shown.open?.(rest, query);
  if (latest) show();
}

function frame() {
  const zone = byId("zone");
  const label = () => setText(zone, zoneOf());
  label();
  zone.addEventListener("click", () => {
    toggleZone();
    label();
    dispatchEvent(new Event("zone"));
    shown.open?.(fragment().rest, fragment().query);
    if (latest) show();
  });
  const language = byId("language");
  language.addEventListener("click", () => { language.hash = location.hash; });
  byId("skip").addEventListener("click", (e) => { // the fragment names a view: don't replace it
    e.preventDefault();
    main.focus();
  });
  if (boot.user) byId("user").append(el("span", { text: boot.user }));
  setText(byId("version"), boot.version);
}

frame();
route();
addEventListener("hashchange", () => {
  const before = path;
  route();
  if (path !== before) scrollTo(0, 0); // another filter is the same page
});
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") poll();
  else clearTimeout(timer);
});
poll();
