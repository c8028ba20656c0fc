// Elements that change in place: a refresh changes text nodes and attributes, and keeps every node that
// still stands for the same thing, so that focus, selection and screen readers are undisturbed. Values
// reach the page as text only.
import { t } from "./format.js";

// graphic shows characters that are invisible, or that change how others are shown (controls,
// bidirectional overrides, zero-width characters), as the commands do: as JSON escapes.
const invisible = /(?![\n\t])[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu;
const graphic = (value) => String(value ?? "").replace(invisible, (c) => c.split("").map((unit) =>
  `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`).join(""));

// el makes an element. props: class, text, on… (a listener), and attributes; false and null are left out.
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") node.className = value;
    else if (name === "text") node.textContent = graphic(value);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
}

export function setText(node, value) {
  const s = graphic(value);
  if (node.firstChild?.nodeType === Node.TEXT_NODE && node.childNodes.length === 1) {
    if (node.firstChild.data !== s) node.firstChild.data = s;
  } else if (node.textContent !== s || node.childNodes.length > 0) node.textContent = s;
}

export const setClass = (node, value) => { if (node.className !== value) node.className = value; };
export const setHidden = (node, value) => { if (node.hidden !== value) node.hidden = value; };

// setParts shows [class, text] pairs as spans; those that exist are reused.
export function setParts(node, parts) {
  while (node.children.length > parts.length) node.lastElementChild.remove();
  parts.forEach(([name, value], i) => {
    const span = node.children[i] ?? node.appendChild(document.createElement("span"));
    setClass(span, name);
    setText(span, value);
  });
}

// keyed shows one child per item. A child stays the same node while its key does. The child with the
// focus or the selection never moves; the others move around it.
export function keyed(parent, items, key, make, update) {
  const old = (parent.keyedChildren ??= new Map());
  const nodes = new Map();
  for (const item of items) {
    const k = key(item);
    if (nodes.has(k)) continue;
    const node = old.get(k) ?? make(item);
    nodes.set(k, node);
    update(node, item);
  }
  for (const [k, node] of old) if (!nodes.has(k)) node.remove();
  parent.keyedChildren = nodes;
  const list = [...nodes.values()];
  if (list.length === 0) return;
  const anchor = document.getSelection()?.anchorNode;
  const pinned = list.findIndex((n) => n.contains(document.activeElement) || (anchor && n.contains(anchor)));
  if (pinned < 0 && parent.firstElementChild !== list[0]) parent.prepend(list[0]);
  const start = Math.max(0, pinned);
  for (let i = start - 1; i >= 0; i--) {
    if (list[i].nextElementSibling !== list[i + 1]) parent.insertBefore(list[i], list[i + 1]);
  }
  for (let i = start + 1; i < list.length; i++) {
    if (list[i - 1].nextElementSibling !== list[i]) list[i - 1].after(list[i]);
  }
}

// table makes a table inside a box that scrolls. A column has a head (a key of the catalogue), and
// text(item), parts(item) or, for controls that stay, make(item) and update(td, item).
export function table(label, columns, key, empty) {
  const head = el("tr", {}, ...columns.map((c) => el("th", {
    scope: "col", class: [c.num ? "n" : "", c.class ?? ""].join(" ").trim() || null, text: c.head ? t(c.head) : "" })));
  const body = el("tbody");
  const note = el("p", { class: "quiet empty", text: empty ? t(empty) : "", hidden: true });
  const box = el("div", { class: "scroll", hidden: true, tabindex: "0", role: "region", "aria-label": t(label) },
    el("table", {}, el("thead", {}, head), body));
  const make = (item) => {
    const row = el("tr", {}, ...columns.map((c, i) => {
      const cell = el(i === 0 ? "th" : "td", { class: [c.num ? "n" : "", c.class ?? ""].join(" ").trim() || null,
        scope: i === 0 ? "row" : null, "data-head": c.head ? t(c.head) : "" });
      if (c.make) cell.append(...[c.make(item, () => row.item)].flat());
      return cell;
    }));
    return row;
  };
  const update = (row, item) => {
    row.item = item;
    columns.forEach((c, i) => {
      if (c.text) setText(row.cells[i], c.text(item));
      else if (c.parts) setParts(row.cells[i], c.parts(item));
      else c.update?.(row.cells[i], item);
    });
  };
  return {
    node: el("div", {}, box, note),
    show(items) {
      setHidden(box, items.length === 0);
      setHidden(note, items.length > 0);
      keyed(body, items, key, make, update);
    },
  };
}

// setFacts shows [label, value] pairs as a definition list; empty values are left out.
export function setFacts(list, pairs) {
  keyed(list, pairs.filter(([, v]) => v !== "" && v !== null && v !== undefined), ([label]) => label,
    ([label]) => el("div", {}, el("dt", { text: label }), el("dd")),
    (node, [, value]) => setText(node.lastElementChild, value));
}

export const card = (title, ...children) =>
  el("section", { class: "card" }, el("header", {}, el("h2", { text: t(title) })), ...children);

// command shows a command line with a button that copies it. Its words are spans, so that a line breaks
// between words, and not after the hyphens of a flag.
export function command(value = "") {
  const code = el("code");
  const words = (text) => setParts(code, (text.match(/\S+\s*/g) ?? []).map((word) => ["word", word]));
  words(value);
  const button = el("button", { type: "button", class: "small", text: t("ui.copy"), onclick: async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      setText(button, t("ui.copied"));
    } catch { // no permission, or not a secure context: select it, so that the reader can copy it
      document.getSelection().selectAllChildren(code);
      setText(button, t("ui.selected"));
    }
    setTimeout(() => setText(button, t("ui.copy")), 2000);
  } });
  const node = el("div", { class: "command" }, code, button);
  return { node, show(text) { words(text ?? ""); setHidden(node, !text); } };
}
