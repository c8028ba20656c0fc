// The overview: the sentence, the numbers of now, the plots with what happened, workers and partitions.
import { actions, releases } from "./actions.js";
import { card, el, keyed, setClass, setFacts, setHidden, setParts, setText, table } from "./dom.js";
import { account, capital, codeFix, codeText, reveal, said } from "./explain.js";
import { age, ago, boot, clock, clockWithZone, count, rate, t, text, word } from "./format.js";
import { createPlots, markClass, markSign } from "./plots.js";

// soon formats a time to come; one that is over is now: it is being done.
const soon = (v) => (Date.parse(v) > Date.now() ? clockWithZone(v) : t("ui.soon"));

const signs = { bad: "✕", warn: "!", good: "✓" };
const few = 20; // rows that are shown until the reader asks for all

// The facts of a sentence: its parameters, in this order, except those that its text has.
const facts = [
  ["detail"], ["code", (v) => codeText(v)], ["message", (v, { params: p }) => said(p.code, v)],
  ["since", clockWithZone],
  ["workers", (v, { params: p }) => (p.of > 1 ? t("ui.of", { count: v, of: p.of }) : "")],
  ["reason", (v, s) => (s.key === "held" ? "" : v)], ["topic"], ["partition"], ["offset", count],
  ["report", account], ["peer", account],
  ["attempts", (v, { params: p }) => (p.attempts_of ? t("ui.of", { count: v, of: p.attempts_of }) : count(v))],
  ["retry_at", soon], ["waits_key", (v) => t(v)], ["age", age], ["oldest", age],
  ["waiting", count], ["bound", count], ["lane", (v) => (v === "all" ? "" : word("ui.lane", v))],
  ["lag", count], ["dead_lettered", count], ["by"], ["why"], ["next", soon],
];

// what to do: the sentence's own advice, then how to fix the failure behind it.
function advice({ key, params = {} }) {
  const own = text(`sentence.${key}.do`) ? capital(t(`sentence.${key}.do`, params)) : "";
  const elsewhere = key === "blocked" && params.worker && !params.waits_for
    ? t("ui.see_worker", params) : "";
  return [...new Set([own, params.code ? codeFix(params.code) : "", elsewhere])].filter(Boolean)
    .map((s) => ["line", s]);
}

function createBanner() {
  const sign = el("span", { class: "sign", "aria-hidden": "true" });
  const headline = el("h1", { class: "headline" });
  const live = el("p", { class: "away", role: "status", "aria-live": "polite" });
  const more = el("p");
  const list = el("dl", { class: "facts" });
  const todo = el("p", { class: "todo" }, el("b", { text: t("ui.todo") }), el("span"));
  const masks = reveal(() => show(last));
  const open = el("button", { type: "button", class: "small", text: t("ui.conversation.open"),
    onclick: () => dispatchEvent(new CustomEvent("conversation", { detail: last.params })) });
  const letters = el("a", { href: "#dead-letters?class=rejected", text: t("ui.letters") });
  const release = releases();
  const links = el("p", { class: "inline" }, release.node, open, masks.node, letters);
  const node = el("section", { class: "banner" }, sign, el("div", {}, headline, more, list, todo, links), live);
  let [announced, last] = ["", null];
  function show(s, workers) {
    last = s;
    const params = s.params ?? {};
    masks.show();
    if (workers) release.show(params.reason, workers);
    setHidden(open, !params.report);
    setHidden(masks.node, !params.report);
    setHidden(letters, boot.scope !== "group" || params.reason !== "rejections");
    setHidden(links, [...links.children].every((c) => c.hidden));
    const words = t(`sentence.${s.key}`, params);
    setClass(node, `banner ${s.severity}`);
    setText(sign, signs[s.severity] ?? "");
    setText(headline, words);
    if (announced !== s.key) { // its numbers change every two seconds: nobody wants to hear them
      announced = s.key;
      setText(live, `${t(`ui.severity.${s.severity}`)}: ${words}`);
    }
    const further = text(`sentence.${s.key}.more`) ? t(`sentence.${s.key}.more`, params) : "";
    setText(more, further);
    setHidden(more, further === "");
    const texts = ["", ".more", ".do"].map((part) => text(`sentence.${s.key}${part}`)).join("");
    const missing = ([name]) => (params[name] ?? "") !== ""
      && !new RegExp(`\\{${name}(_key)?[:}]`).test(texts);
    setFacts(list, s.severity === "good" ? [] : facts.filter(missing)
      .map(([name, format]) => [t(`ui.fact.${name}`), format ? format(params[name], s) : String(params[name])]));
    const what = advice(s);
    setParts(todo.lastElementChild, what);
    setHidden(todo, what.length === 0);
  }
  return { node, show };
}

// The numbers of now: a label, a value, and a second line that explains it.
function tiles({ now: n, dead_letters: d }) {
  const list = [
    ["calls", rate(n.calls), n.rate === null ? (n.calls === null ? "" : t("ui.unlimited"))
      : n.limit !== null && n.share !== null && n.limit < n.share ? t("ui.tile.limit", n) : t("ui.tile.of", n)],
    ["in", rate(n.in), t("ui.tile.out", n)],
    ["waiting", count(n.conversations), t("ui.tile.events", n)],
    ["oldest", n.oldest_seconds === null ? "–" : age(n.oldest_seconds),
      n.conversations > 0 && n.drain_seconds !== null ? t("ui.tile.drain", n) : ""],
    ["age", age(n.p99), t("ui.tile.p50", n)],
  ];
  if (d) list.push(["letters", count(d.open), t("ui.tile.parked", d)]);
  return list;
}

function createTiles() {
  const node = el("dl", { class: "tiles" });
  const make = ([name]) => el("div", {}, el("dt", { text: t(`ui.tile.${name}`) }), el("dd"),
    el("dd", { class: "quiet" }));
  return { node, show: (o) => keyed(node, tiles(o), ([name]) => name, make, (tile, [, value, more]) => {
    setText(tile.children[1], value);
    setText(tile.children[2], more);
  }) };
}

// happened says what happened in words.
export function happened(h) {
  const who = h.worker && boot.scope === "group" ? ` · ${h.worker}` : "";
  const lane = (h.params?.lane ?? "all") === "all" ? "" : ` (${word("ui.lane", h.params.lane)})`;
  const why = h.params?.why ? `: ${h.params.why}` : "";
  return t(`happening.${h.kind}`, h.params).trim() + why + lane + who;
}

// expander is a button that shows all of a list.
function expander(redraw) {
  let all = false;
  const node = el("button", { type: "button", class: "link", "aria-expanded": "false", onclick: () => {
    all = !all;
    node.setAttribute("aria-expanded", String(all));
    redraw();
  } });
  return { node, cut(items) {
    setHidden(node, items.length <= few);
    setText(node, all ? t("ui.show.fewer") : t("ui.show.all", { count: items.length }));
    return all ? items : items.slice(0, few);
  } };
}

function createHappened() {
  const list = el("ol", { class: "happened" });
  const empty = el("p", { class: "quiet empty", text: t("ui.happened.none") });
  const make = () => el("li", {}, el("span", { "aria-hidden": "true" }), el("time"), el("span"));
  const node = card("ui.happened", el("div", { class: "scroll tall", tabindex: "0", role: "region",
    "aria-label": t("ui.happened") }, list, empty));
  node.classList.add("side");
  return { node, show(o) {
    setHidden(empty, o.happened.length > 0);
    keyed(list, o.happened, (h) => JSON.stringify([h.at, h.kind, h.worker, h.params]), make, (li, h) => {
      setClass(li.children[0], `mark ${markClass(h.kind)}`);
      setText(li.children[0], markSign(h.kind));
      setText(li.children[1], clock(h.at));
      setText(li.children[2], happened(h));
    });
  } };
}

const tones = { ready: "good", "not-ready": "bad", silent: "bad" };

// holdText names a hold: "outage (live) since 14:03:12, by alice: deploy".
function holdText(h) {
  const name = word("hold", h.reason) + (h.lane && h.lane !== "all" ? ` (${word("ui.lane", h.lane)})` : "");
  return [t("ui.hold", { name, since: clock(h.since) }), h.by && t("ui.by", h), h.why].filter(Boolean).join(" · ");
}

function workerState(w) {
  const held = (w.held ?? []).map((h) => [`badge ${h.reason === "quota" ? "" : "warn"}`, holdText(h)]);
  const ready = w.state === "ready" && held.length > 0; // a hold says more
  return [...held, ...ready ? [] : [[`badge ${tones[w.state] ?? ""}`, word("state", w.state)]],
    ...[w.silent, w.note].filter(Boolean).map((s) => ["quiet line", s])];
}

function createWorkers() {
  let now = "";
  const columns = [
    { head: "ui.worker", class: "name", parts: (w) => [["", w.name || t("ui.this_worker")],
      ["quiet line", w.version]] },
    { head: "ui.state", class: "wide", parts: workerState },
    { head: "ui.calls", num: true, parts: (w) => [["", rate(w.calls)],
      ["quiet", w.share === null ? "" : ` / ${rate(w.limit ?? w.share)}`]] },
    { head: "ui.in_flight", num: true, text: (w) => count(w.in_flight) },
    { head: "ui.conversations", num: true, text: (w) => count(w.conversations) },
    { head: "ui.events", num: true, text: (w) => count(w.events) },
    { head: "ui.oldest", num: true, text: (w) => age(w.oldest_seconds) },
    { head: "ui.partitions", num: true, text: (w) => count(w.partitions) },
    { head: "ui.up", num: true, text: (w) => ago(w.started_at, now) },
  ];
  if (boot.controls) columns.push({ head: "ui.actions", ...actions });
  const rows = table("ui.workers", columns, (w) => w.address || w.name, "ui.workers.none");
  const node = card("ui.workers", rows.node);
  node.classList.add("cards");
  return { node, show(o) {
    now = o.at;
    rows.show(o.workers);
  } };
}

// trend says in words too where an age is going: a second a second means that nothing finishes.
function trend(p) {
  if (p.trend === null || p.oldest_seconds === 0) return [];
  if (p.trend > 0.9) return [["bad", `↑ ${t("ui.trend.stuck")}`]];
  if (p.trend > 0.05) return [["warn", `↗ ${t("ui.trend.growing")}`]];
  if (p.trend < -0.05) return [["good", `↘ ${t("ui.trend.shrinking")}`]];
  return [["quiet", `→ ${t("ui.trend.steady")}`]];
}

function partitionState(p) {
  const u = p.unreadable;
  const parts = [];
  if (u) {
    parts.push(["badge bad", t("ui.unreadable")], ["line", t("ui.unreadable.since", { since: clock(u.since),
      offset: u.offset })], ["line", u.reason], ["quiet line", u.do]);
  }
  if (p.oldest) {
    parts.push(["line", t("ui.oldest.event", { offset: p.oldest.offset, attempts: p.oldest.attempts,
      waits: word("waits", p.oldest.waits_for) })],
    ["quiet line", codeText(p.oldest.code)]);
  }
  return parts.filter(([, s]) => s);
}

const left = (p) => (p.retention_left === -1 ? t("ui.forever") : age(p.retention_left));

function createPartitions() {
  const columns = [
    { head: "ui.partition", class: "name", text: (p) => `${p.topic} · ${p.partition}` },
    { head: "ui.lane", class: "roomy", text: (p) => word("ui.lane", p.lane) },
    { head: "ui.lag", num: true, class: "roomy", text: (p) => count(p.lag) },
    { head: "ui.oldest", num: true, text: (p) => (p.oldest_seconds > 0 ? age(p.oldest_seconds) : "–") },
    { head: "ui.trend", parts: trend },
    { head: "ui.retention", num: true, parts: (p) => [[p.retention_left >= 0 && p.retention_left !== null &&
      p.retention_left < 6 * 3600 ? "bad" : "", left(p)]] },
    { head: "ui.notes", class: "wide", parts: partitionState },
  ];
  if (boot.scope === "group") {
    columns.splice(2, 0, { head: "ui.owner", class: "roomy", text: (p) => p.worker || t("ui.nobody") });
  }
  let last = null;
  const more = expander(() => show(last));
  const further = el("p", { class: "quiet" });
  const rows = table("ui.partitions", columns, (p) => `${p.topic}/${p.partition}`, "ui.partitions.none");
  const node = card("ui.partitions", rows.node, el("footer", {}, more.node, further));
  node.classList.add("lines", "partitions");
  function show(o) {
    last = o;
    rows.show(more.cut(o.partitions));
    setText(further, o.more_partitions > 0 ? t("ui.partitions.more", { count: o.more_partitions }) : "");
  }
  return { node, show };
}

export function createOverview(onRange) {
  const parts = [createBanner(), createTiles(), createPlots(onRange, happened), createHappened(),
    createWorkers(), createPartitions()];
  const errors = el("ul", { class: "errors" });
  const [banner, now, plots, events, workers, partitions] = parts.map((p) => p.node);
  const all = [banner, errors, now, el("div", { class: "columns" }, plots, events), workers, partitions];
  const node = el("div", { class: "stack" }, el("h1", { text: t("ui.loading") }));
  return { node, title: () => t("ui.overview"), show(o, history) {
    if (!banner.isConnected) node.replaceChildren(...all);
    parts.forEach((p, i) => (i === 0 ? p.show(o.sentence, o.workers) : p.show(o, history)));
    const list = o.errors ?? [];
    keyed(errors, list, (e) => e, (e) => el("li", { text: e }), () => {});
    setHidden(errors, list.length === 0);
  } };
}
