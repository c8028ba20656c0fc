// Dead letters: groups, filter, list, one in full, export and the command for the same filter.
import { message, post } from "./api.js";
import { card, command, el, setFacts, setHidden, setText, table } from "./dom.js";
import { account, codeText, fix, isRevealed, meaning, reveal, said } from "./explain.js";
import { boot, clock, clockWithZone, count, t, word } from "./format.js";
import { createReplay } from "./replay.js";

const page = 100;
const states = ["open", "parked", "replayed", "discarded", "all"];
const classes = ["", "rejected", "exhausted", "invalid"];

const tone = { open: "warn", parked: "bad", replayed: "good" };
const origin = (o) => (o?.topic ? `${o.topic} · ${o.partition ?? "–"} · ${count(o.offset)}` : "–");

// letterColumns are the columns of a list of dead letters.
export const letterColumns = [
  { head: "ui.failed_at", make: (l) => el("a", { href: `#dead-letters/${encodeURIComponent(l.id)}` }),
    update: (cell, l) => setText(cell.firstElementChild, clock(l.failed_at)) },
  { head: "ui.state", parts: (l) => [[`badge ${tone[l.state] ?? ""}`, word("state", l.state)]] },
  { head: "ui.class", text: (l) => word("class", l.class) },
  { head: "ui.code", text: (l) => l.code || "–" },
  { head: "ui.report", class: "name", text: (l) => account(l.report) },
  { head: "ui.peer", class: "name", text: (l) => account(l.peer) },
  { head: "ui.lane", text: (l) => word("ui.lane", l.lane) },
  { head: "ui.collapsed", num: true, text: (l) => count(l.collapsed) },
  { head: "ui.replays", num: true, text: (l) => count(l.replays) },
  { head: "ui.origin", text: (l) => origin(l.origin) },
];

function createForm(apply) {
  const field = (name, input) => el("div", {}, el("label", { for: `f-${name}`, text: t(`ui.${name}`) }), input);
  const input = (name, placeholder) => field(name, el("input", { id: `f-${name}`, name, autocomplete: "off",
    spellcheck: "false", placeholder: placeholder && t(placeholder) }));
  const select = (name, values, kind) => field(name, el("select", { id: `f-${name}`, name }, ...values.map((v) =>
    el("option", { value: v, text: v === "" ? t("ui.any") : word(kind, v) }))));
  const form = el("form", { class: "filter" }, select("state", states, "state"), select("class", classes, "class"),
    input("code"), input("since", "ui.since.example"), input("until", "ui.until.example"),
    input("report"), input("peer"),
    el("div", { class: "buttons" }, el("button", { type: "submit", class: "main", text: t("ui.apply") }),
      el("button", { type: "reset", text: t("ui.clear") })));
  form.addEventListener("submit", (e) => {
    e.preventDefault();
    apply();
  });
  form.addEventListener("reset", () => setTimeout(apply));
  const values = () => Object.fromEntries([...new FormData(form)].map(([k, v]) => [k, v.trim()]));
  // The filter is in the fragment, so that it survives a reload and can be sent to others; accounts
  // are not: a browser keeps its history.
  const inFragment = { state: "open", class: "", code: "", since: "", until: "" };
  return { node: form, values,
    query() {
      const set = Object.entries(values()).filter(([k, v]) => Object.hasOwn(inFragment, k)
        && v !== inFragment[k]);
      return set.length > 0 ? `?${new URLSearchParams(set)}` : "";
    },
    setQuery(query) {
      const asked = new URLSearchParams(query);
      for (const { name } of form.elements) {
        if (!name) continue;
        const initial = inFragment[name] ?? "";
        form.elements[name].value = Object.hasOwn(inFragment, name) ? asked.get(name) ?? initial : "";
        if (form.elements[name].selectedIndex === -1) form.elements[name].value = initial;
      }
    },
    set(some) {
      for (const [k, v] of Object.entries(some)) form.elements[k].value = v;
      apply();
    } };
}

// An export is a real form: the browser downloads it, however large it is.
function createExport(values) {
  const node = el("form", { method: "post", action: "api/dead-letters/export", class: "inline" },
    ...["ndjson", "csv"].map((f) => el("button", { name: "format", value: f, class: "small",
      text: t(`ui.export.${f}`) })));
  node.addEventListener("submit", () => {
    node.querySelectorAll("input").forEach((i) => i.remove());
    node.append(...Object.entries(values()).map(([name, value]) => el("input", { type: "hidden", name, value })));
  });
  return node;
}

function createList() {
  let [filter, offset, last] = [{}, 0, null];
  const hash = () => `#dead-letters${form.query()}`;
  const form = createForm(() => {
    location.hash = hash();
    load(0);
  });
  const status = el("p", { class: "quiet", role: "status" });
  const groups = table("ui.groups", [
    { head: "ui.class", class: "name", make: (g) => el("button", { type: "button", class: "link",
      title: t("ui.filter.by"), text: `${word("class", g.class)}${g.code ? ` ${g.code}` : ""}`,
      onclick: () => form.set({ class: g.class, code: g.code }) }) },
    ...states.slice(0, 4).map((s) => ({ head: `state.${s}`, num: true, text: (g) => count(g[s]) })),
    { head: "ui.newest", class: "roomy", text: (g) => clock(g.newest) },
    { head: "ui.meaning", class: "wide", parts: (g) => [["", meaning(g)],
      ["quiet line", fix(g)]].filter(([, s]) => s) },
  ], (g) => `${g.class} ${g.code}`, "ui.letters.none");
  const items = table("ui.letters", letterColumns, (l) => l.id, "ui.letters.none");
  const [newer, older] = [["ui.page.newer", -page], ["ui.page.older", page]].map(([key, step]) =>
    el("button", { type: "button", class: "small", text: t(key), onclick: () => load(offset + step) }));
  const where = el("span", { class: "quiet" });
  const masks = reveal(() => draw());
  const [list, again] = [command(), command()];
  const unread = el("ul", { class: "errors", hidden: true });
  // The filter of what is shown: until is pinned, so that a newer dead letter changes neither the pages
  // nor what is exported or replayed.
  const pinned = () => ({ ...filter, until: filter.until || last?.until || "" });
  const replay = boot.allow_replay ? createReplay(pinned, () => last?.replay_command, () => load(0)) : null;
  const commands = el("details", {}, el("summary", { text: t("ui.commands") }), list.node, again.node);
  const groupsCard = card("ui.groups", groups.node);
  groupsCard.classList.add("lines", "groups");
  const listCard = card("ui.letters", items.node, el("footer", {}, newer, where, older));
  listCard.firstElementChild.append(masks.node);
  const use = el("footer", {}, createExport(pinned), el("span", { class: "quiet", text: t("ui.export.accounts") }),
    commands);
  const node = el("div", { class: "stack" }, el("h1", { text: t("ui.letters") }),
    card("ui.filter", form.node, status, unread, use), groupsCard, replay?.node, listCard);
  const found = [use, groupsCard, replay?.node, listCard].filter(Boolean);

  let loads = 0;
  async function load(from) {
    const mine = ++loads;
    if (from === 0) {
      filter = form.values();
      replay?.drop();
    }
    const body = from === 0 ? { ...filter, offset: 0 } : { ...pinned(), offset: from };
    setText(status, t("ui.loading"));
    try {
      const r = await post("api/dead-letters", body);
      if (mine !== loads) return;
      [last, offset] = [r, from];
      found.forEach((part) => setHidden(part, false));
      draw();
    } catch (e) {
      if (mine !== loads) return;
      setText(status, message(e));
      found.forEach((part) => setHidden(part, true)); // they belong to another filter
    }
  }
  function draw() {
    masks.show();
    if (!last) return;
    setText(status, t("ui.letters.found", { total: last.total, at: last.at }));
    groups.show(last.groups ?? []);
    items.show(last.items ?? []);
    newer.disabled = offset === 0;
    older.disabled = !last.more;
    setText(where, last.total === 0 ? "" : t("ui.page.where", { from: offset + 1,
      to: offset + last.items.length, total: last.total }));
    list.show(last.command);
    again.show(last.replay_command);
    unread.replaceChildren(...(last.unread ?? []).map((u) => el("li", { text: u })));
    setHidden(unread, (last.unread ?? []).length === 0);
  }
  return { node, hash, show: (o) => replay?.show(o), open(query) {
    const same = query === form.query();
    if (!same) form.setQuery(query);
    if (same && last) draw();
    else load(0);
  } };
}

function createLetter() {
  const title = el("h1");
  const status = el("p", { class: "quiet", role: "status" });
  const facts = el("dl", { class: "facts" });
  const headers = el("dl", { class: "rows" });
  const event = el("pre", { tabindex: "0", "aria-label": t("ui.event") });
  const others = table("ui.history", letterColumns, (l) => l.id, "ui.history.none");
  let letter = null;
  const masks = reveal(() => draw());
  const line = command();
  const body = el("div", { class: "stack" }, card("ui.letter", facts, line.node), card("ui.event", event),
    card("ui.history", others.node), card("ui.headers", headers));
  body.children[1].firstElementChild.append(masks.node);
  const back = el("a", { text: `← ${t("ui.letters")}` });
  const node = el("div", { class: "stack" }, el("p", {}, back), title, status, body);
  function draw() {
    masks.show();
    if (!letter) return;
    const l = letter;
    const r = l.resolution;
    setFacts(facts, [
      [t("ui.state"), word("state", l.state)], [t("ui.class"), word("class", l.class)],
      [t("ui.code"), codeText(l.code)], [t("ui.message"), said("", l.message)], [t("ui.todo"), fix(l)],
      [t("ui.failed_at"), clockWithZone(l.failed_at)],
      [t("ui.report"), account(l.report)], [t("ui.peer"), account(l.peer)],
      [t("ui.read_time"), l.read_time ? `${l.read_time} · ${clockWithZone(l.read_time)}` : ""],
      [t("ui.lane"), word("ui.lane", l.lane)], [t("ui.attempts"), count(l.attempts)],
      [t("ui.collapsed"), count(l.collapsed)],
      [t("ui.replays"), count(l.replays)], [t("ui.origin"), origin(l.origin)],
      [t("ui.resolution"), r ? `${r.id} · ${clockWithZone(r.at)}` : ""],
      [t("ui.may_be_resolved"), l.may_be_resolved ? t("ui.yes") : ""],
      [t("ui.value_omitted"), l.value_omitted],
    ]);
    setText(event, !isRevealed() ? t("ui.masked")
      : [l.key && `${t("ui.key")}: ${l.key}`, l.value ?? l.value_base64].filter(Boolean).join("\n"));
    line.show(l.command);
    headers.replaceChildren(...[...l.headers ?? [], ...l.headers_base64 ?? []].map(([name, value]) =>
      el("div", {}, el("dt", { text: name }), el("dd", { text: value }))));
    others.show(l.others ?? []);
  }
  return { node, async open(id, listHash) {
    letter = null;
    back.setAttribute("href", listHash);
    setText(title, t("ui.letter.id", { id }));
    setText(status, t("ui.loading"));
    setHidden(body, true);
    try {
      letter = await post("api/dead-letters/show", { id });
      setText(status, "");
      setHidden(body, false);
      draw();
    } catch (e) {
      setText(status, message(e));
    }
  } };
}

export function createDeadLetters() {
  const [list, letter] = [createList(), createLetter()];
  const node = el("div", {});
  return { node, title: () => t("ui.letters"), show: (o) => list.show(o), open(id, query) {
    const view = id ? letter : list;
    if (node.firstElementChild !== view.node) node.replaceChildren(view.node);
    if (id) letter.open(id, list.hash());
    else list.open(query);
  } };
}
